# Brings the pinned dependencies (tools/dependencies.lock) into the build. For each, the first that applies:
#   1. HR_SYSTEM_DEPENDENCIES names it            -> find_package, the packager's own copy
#   2. FETCHCONTENT_SOURCE_DIR_<NAME> is set      -> that folder
#   3. tools/setup has put it into the cache      -> the cache
#   4. otherwise                                  -> FetchContent clones the pinned commit from upstream
#
# Targets for hr_library(... LINK ...):
#   XNNPACK pthreadpool cpuinfo hwy pcre2-8 dep_xxhash dep_flatbuffers dep_fp16 dep_fxdiv   runtime
#   nlohmann_json::nlohmann_json CLI11::CLI11 Catch2::Catch2WithMain                        tools and tests only
#
# Dependencies are always compiled optimised, without our warning flags and without sanitizers: every preset of
# one machine then shares the same objects through ccache. (pthreadpool under tsan is the exception, see below.)
include(FetchContent)

set(HR_SYSTEM_DEPENDENCIES "" CACHE STRING
  "Dependencies to take from find_package: any of catch2;json;cli11;highway")
set(HR_LOCK_FILE "${PROJECT_SOURCE_DIR}/tools/dependencies.lock")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${HR_LOCK_FILE}")

function(hr_cache_dir out)
  if(DEFINED ENV{HEADROOM_CACHE})
    set(dir "$ENV{HEADROOM_CACHE}")
  elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(dir "$ENV{XDG_CACHE_HOME}/headroom")
  else()
    set(dir "$ENV{HOME}/.cache/headroom")
  endif()
  set(${out} "${dir}" PARENT_SCOPE)
endfunction()

# Reads the row of `name`; sets <prefix>_{version,git,commit,sha256} in the caller.
function(hr_lock_row name prefix)
  file(STRINGS "${HR_LOCK_FILE}" row REGEX "^${name}[ \t]")
  if(NOT row)
    message(FATAL_ERROR "${name} is not in ${HR_LOCK_FILE}")
  endif()
  string(REGEX REPLACE "[ \t]+" ";" row "${row}")
  list(GET row 1 version)
  list(GET row 2 git)
  list(GET row 3 commit)
  list(GET row 6 sha256)
  foreach(field version git commit sha256)
    set(${prefix}_${field} "${${field}}" PARENT_SCOPE)
  endforeach()
endfunction()

# Finds or fetches the sources of `name`; sets <name>_SOURCE_DIR in the caller.
function(hr_source name)
  hr_lock_row(${name} lock)
  string(TOUPPER ${name} upper)
  hr_cache_dir(cache)
  set(cached "${cache}/src/${name}-${lock_version}")
  if(FETCHCONTENT_SOURCE_DIR_${upper})
    set(dir "${FETCHCONTENT_SOURCE_DIR_${upper}}")
  else()
    set(ready "")
    if(EXISTS "${cached}.sha256")
      file(STRINGS "${cached}.sha256" ready)
    endif()
    if(ready STREQUAL lock_sha256)
      set(dir "${cached}")
    else()
      message(STATUS "${name}: not in ${cache} (tools/setup would put it there); cloning ${lock_git}")
      FetchContent_Declare(${name} GIT_REPOSITORY "${lock_git}" GIT_TAG "${lock_commit}" GIT_SUBMODULES "")
      FetchContent_GetProperties(${name})
      if(NOT ${name}_POPULATED)
        FetchContent_Populate(${name})
      endif()
      set(dir "${${name}_SOURCE_DIR}")
    endif()
  endif()
  if(NOT IS_DIRECTORY "${dir}")
    message(FATAL_ERROR "${name}: ${dir} is not a folder")
  endif()
  set(${name}_SOURCE_DIR "${dir}" PARENT_SCOPE)
endfunction()

macro(hr_add_sources name)
  add_subdirectory("${${name}_SOURCE_DIR}" "${PROJECT_BINARY_DIR}/_deps/${name}" EXCLUDE_FROM_ALL SYSTEM)
endmacro()

# A header-only dependency: target dep_<name> with one include folder.
function(hr_add_headers name include_dir)
  hr_source(${name})
  add_library(dep_${name} INTERFACE)
  target_include_directories(dep_${name} SYSTEM INTERFACE "${${name}_SOURCE_DIR}/${include_dir}")
  set(${name}_SOURCE_DIR "${${name}_SOURCE_DIR}" PARENT_SCOPE)
endfunction()

# A function, so that the settings below end with it.
function(hr_add_compiled_dependencies)
  set(CMAKE_BUILD_TYPE Release)
  set(CMAKE_EXPORT_COMPILE_COMMANDS OFF)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # let the plain variables below decide options
  set(CMAKE_WARN_DEPRECATED OFF)
  set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
  set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
  set(BUILD_SHARED_LIBS OFF)
  set(BUILD_TESTING OFF)
  add_compile_options(-ffunction-sections -fdata-sections -w)

  # XNNPACK and what it stands on. Test-only kernels off: they are three quarters of its build.
  foreach(name pthreadpool cpuinfo fxdiv xnnpack)
    hr_source(${name})
  endforeach()
  set(PTHREADPOOL_SOURCE_DIR "${pthreadpool_SOURCE_DIR}")
  set(CPUINFO_SOURCE_DIR "${cpuinfo_SOURCE_DIR}")
  set(FXDIV_SOURCE_DIR "${fxdiv_SOURCE_DIR}")
  set(CPUINFO_LIBRARY_TYPE static CACHE STRING "")
  set(PTHREADPOOL_LIBRARY_TYPE static CACHE STRING "")
  set(XNNPACK_LIBRARY_TYPE static CACHE STRING "")
  set(CPUINFO_LOG_LEVEL none CACHE STRING "")  # the library must never print
  foreach(option CPUINFO_BUILD_TOOLS CPUINFO_BUILD_UNIT_TESTS CPUINFO_BUILD_MOCK_TESTS CPUINFO_BUILD_BENCHMARKS
                 CPUINFO_BUILD_PKG_CONFIG PTHREADPOOL_BUILD_TESTS PTHREADPOOL_BUILD_BENCHMARKS
                 FXDIV_BUILD_TESTS FXDIV_BUILD_BENCHMARKS XNNPACK_BUILD_TESTS XNNPACK_BUILD_BENCHMARKS
                 XNNPACK_BUILD_ALL_MICROKERNELS XNNPACK_ENABLE_KLEIDIAI)
    set(${option} OFF CACHE BOOL "" FORCE)
  endforeach()
  set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/tools/cmake/python_once.sh")
  hr_add_sources(xnnpack)
  if(HR_SANITIZE MATCHES "thread")
    # The thread sanitizer must see the pool's own locking, or it reports every task as a race.
    target_compile_options(pthreadpool PRIVATE -fsanitize=thread)
  endif()

  # PCRE2: 8-bit code units with Unicode tables, interpreter only.
  hr_source(pcre2)
  set(PCRE2_BUILD_PCRE2GREP OFF)
  set(PCRE2_BUILD_TESTS OFF)
  set(PCRE2_SHOW_REPORT OFF)
  set(PCRE2_STATIC_PIC ON)
  set(PCRE2_SUPPORT_LIBBZ2 OFF)
  set(PCRE2_SUPPORT_LIBZ OFF)
  set(PCRE2_SUPPORT_LIBREADLINE OFF)
  set(PCRE2_SUPPORT_JIT OFF CACHE BOOL "" FORCE)
  set(PCRE2_SUPPORT_UNICODE ON CACHE BOOL "" FORCE)
  hr_add_sources(pcre2)
  set_target_properties(pcre2-8-static PROPERTIES DEBUG_POSTFIX "")

  if("highway" IN_LIST HR_SYSTEM_DEPENDENCIES)
    find_package(hwy REQUIRED CONFIG)
    add_library(hwy ALIAS hwy::hwy)
  else()
    hr_source(highway)
    set(HWY_ENABLE_CONTRIB OFF)
    set(HWY_ENABLE_EXAMPLES OFF)
    set(HWY_ENABLE_TESTS OFF)
    set(HWY_ENABLE_INSTALL OFF)
    set(HWY_FORCE_STATIC_LIBS ON)
    hr_add_sources(highway)
  endif()

  if("json" IN_LIST HR_SYSTEM_DEPENDENCIES)
    find_package(nlohmann_json REQUIRED)
  else()
    hr_source(json)
    set(JSON_BuildTests OFF)
    set(JSON_Install OFF)
    hr_add_sources(json)
  endif()

  if("cli11" IN_LIST HR_SYSTEM_DEPENDENCIES)
    find_package(CLI11 REQUIRED)
  else()
    hr_source(cli11)
    set(CLI11_BUILD_DOCS OFF)
    set(CLI11_BUILD_EXAMPLES OFF)
    set(CLI11_BUILD_TESTS OFF)
    set(CLI11_INSTALL OFF)
    hr_add_sources(cli11)
  endif()

  if(NOT HR_TESTS)
    return()
  endif()
  if("catch2" IN_LIST HR_SYSTEM_DEPENDENCIES)
    find_package(Catch2 3 REQUIRED)
  else()
    hr_source(catch2)
    set(CATCH_INSTALL_DOCS OFF)
    set(CATCH_INSTALL_EXTRAS OFF)
    hr_add_sources(catch2)
    # Our Debug presets look a library up by its Debug name; built as Release it has only the plain one.
    set_target_properties(Catch2 Catch2WithMain PROPERTIES DEBUG_POSTFIX "")
    target_compile_options(Catch2 PRIVATE -O1)  # half the compile time; the speed of assertions does not matter
  endif()
endfunction()

# flatc runs on the build machine, also when we compile for another: it is built by the host compiler, apart,
# once for all presets (HR_HOST_TOOLS_DIR). Unoptimised, because it runs for milliseconds.
function(hr_add_flatc)
  add_executable(flatc IMPORTED GLOBAL)
  if(HR_FLATC)
    set_target_properties(flatc PROPERTIES IMPORTED_LOCATION "${HR_FLATC}")
    return()
  endif()
  include(ExternalProject)
  set(launcher "")
  if(CMAKE_CXX_COMPILER_LAUNCHER)
    set(launcher "-DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}")
  endif()
  hr_lock_row(flatbuffers lock)
  set(dir "${HR_HOST_TOOLS_DIR}/flatbuffers-${lock_version}")
  ExternalProject_Add(host_flatc EXCLUDE_FROM_ALL ON
    SOURCE_DIR "${flatbuffers_SOURCE_DIR}" BINARY_DIR "${dir}" PREFIX "${dir}/steps" STAMP_DIR "${dir}/steps"
    CMAKE_ARGS -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-w -DCMAKE_CXX_FLAGS_DEBUG=-O0 ${launcher}
      -DFLATBUFFERS_BUILD_TESTS=OFF -DFLATBUFFERS_BUILD_FLATLIB=OFF -DFLATBUFFERS_INSTALL=OFF -Wno-dev
    BUILD_COMMAND "${CMAKE_COMMAND}" --build "${dir}" --target flatc
    INSTALL_COMMAND "" LOG_CONFIGURE ON LOG_BUILD ON LOG_OUTPUT_ON_FAILURE ON
    BUILD_BYPRODUCTS "${dir}/flatc")
  set_target_properties(flatc PROPERTIES IMPORTED_LOCATION "${dir}/flatc")
  add_dependencies(flatc host_flatc)
endfunction()

hr_add_compiled_dependencies()
hr_add_headers(flatbuffers include)
hr_add_headers(fp16 include)
hr_add_headers(xxhash .)
target_compile_definitions(dep_xxhash INTERFACE XXH_INLINE_ALL)
hr_add_flatc()
