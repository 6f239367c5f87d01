# Brings the pinned dependencies (tools/dependencies.lock) into the build. For each, the first that applies:
#   1. HR_SYSTEM_DEPENDENCIES names it            -> find_package, the packager's own copy
#   2. FETCHCONTENT_SOURCE_DIR_<NAME> is set      -> that folder
#   3. tools/setup has put it into the cache      -> the cache
#   4. otherwise                                  -> FetchContent clones the pinned commit from upstream
#
# Targets for hr_library(... LINK ...):
#   XNNPACK pthreadpool cpuinfo hwy pcre2-8 utf8proc dep_xxhash dep_flatbuffers dep_fp16 dep_fxdiv dep_stb   runtime
#   nlohmann_json::nlohmann_json CLI11::CLI11 dep_protozero dep_eigen Catch2::Catch2WithMain          tools and tests only
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
      FetchContent_Declare(${name} GIT_REPOSITORY "${lock_git}" GIT_TAG "${lock_commit}" GIT_SUBMODULES "")
      FetchContent_GetProperties(${name})
      if(NOT ${name}_POPULATED)
        message(NOTICE "${name}: not in ${cache} (tools/setup puts it there); cloning ${lock_git}")
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

add_subdirectory(tools/cmake/dependencies EXCLUDE_FROM_ALL)
hr_add_headers(flatbuffers include)
hr_add_headers(fp16 include)
hr_add_headers(xxhash .)
hr_add_headers(stb .)
hr_add_headers(protozero include)
hr_add_headers(eigen .)
target_compile_definitions(dep_xxhash INTERFACE XXH_INLINE_ALL)
target_compile_definitions(dep_eigen INTERFACE EIGEN_MPL2_ONLY)
hr_add_flatc()
