# The functions by which every folder declares what it builds.
#
#   hr_library(<name> SRCS a.cc ... DEPS base tensor ... LINK XNNPACK ...)
#       One folder of runtime/ as object library hr_<name>; becomes part of `headroom` and `headroom_shared`.
#       DEPS are other such folders, LINK are dependencies (list: dependencies.cmake).
#   hr_executable(<name> SRCS ... DEPS headroom ... LINK ... [OUTPUT file])
#       A program in <build>/bin. May use exceptions. (The command itself: headroom_cli, OUTPUT headroom.)
#   hr_support_library(<name> SRCS ... DEPS ... LINK ...)
#       A static library shared by tools or tests, never part of the product.
#   hr_test(<name> SRCS x_test.cc ... DEPS headroom hr_test_support ... LINK ... [LABELS slow] [SERIAL] [TIMEOUT s])
#       A Catch2 program and its CTest entry. Its test cases are counted one by one (tools/test). The folder's name
#       is always a label; `slow` runs only with tools/test --slow, `native` never under qemu.
#   hr_plain_test(<name> COMMAND program args ... [LABELS ...] [SERIAL] [TIMEOUT s])
#       Any other command as a CTest entry; exit status 4 means skipped.
#   hr_fuzz_target(<name> SRCS ... DEPS ... [CORPUS folder])
#       With HR_FUZZ a libFuzzer program; without it a CTest entry that replays the corpus once.
#
# Tests find their surroundings in the environment: HEADROOM_SOURCE_DIR, HEADROOM_BUILD_DIR, HEADROOM_CLI.

add_library(hr_flags INTERFACE)  # every target of ours, C and C++
target_compile_options(hr_flags INTERFACE
  -Wall -Wextra -fvisibility=hidden -ffunction-sections -fdata-sections
  $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>
  # gcc 12 sees overlapping copies in "text" + std::string (its bug 105651)
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
  $<$<BOOL:${HR_WERROR}>:-Werror>)
target_link_options(hr_flags INTERFACE -Wl,--gc-sections)
if(HR_SANITIZE)
  target_compile_options(hr_flags INTERFACE
    -fsanitize=${HR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
    # runtime/ has no RTTI, so its objects cannot answer what type they are
    -fno-sanitize=vptr
    # gcc's flow analysis sees ghosts in instrumented code
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized$<SEMICOLON>-Wno-stringop-overflow$<SEMICOLON>-Wno-stringop-overread$<SEMICOLON>-Wno-array-bounds>)
  target_link_options(hr_flags INTERFACE -fsanitize=${HR_SANITIZE})
endif()
if(HR_FUZZ)
  target_compile_options(hr_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

add_library(hr_runtime_flags INTERFACE)  # runtime/ and ports/ only
target_compile_options(hr_runtime_flags INTERFACE
  # Nothing in it throws, but a refusal by the C++ heap must unwind through it: api/guard.h.
  $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
target_compile_definitions(hr_runtime_flags INTERFACE HR_BUILDING_LIBRARY)

add_library(hr_host_flags INTERFACE)  # tools/ and tests/
target_link_libraries(hr_host_flags INTERFACE hr_flags)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # gcc 12 sees an overlap in `"text" + std::string` that cannot be (its bug 105651).
  target_compile_options(hr_host_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()

set(HR_RUNTIME_INCLUDES "${PROJECT_SOURCE_DIR}/runtime" "${PROJECT_SOURCE_DIR}/runtime/include")

# "base" or "backends/xnnpack" -> hr_base, hr_backends_xnnpack; names that are targets already stay.
function(hr_target_names out)
  set(names "")
  foreach(name IN LISTS ARGN)
    string(REPLACE "/" "_" plain "${name}")
    if(name STREQUAL "headroom" OR name MATCHES "^hr_" OR name MATCHES "::")
      list(APPEND names "${name}")
    else()
      list(APPEND names "hr_${plain}")
    endif()
  endforeach()
  set(${out} "${names}" PARENT_SCOPE)
endfunction()

function(hr_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SRCS;DEPS;LINK")
  hr_target_names(target ${name})
  hr_target_names(deps ${arg_DEPS})
  if(NOT arg_SRCS)  # headers only
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${HR_RUNTIME_INCLUDES})
    target_link_libraries(${target} INTERFACE ${deps} ${arg_LINK})
    return()
  endif()
  add_library(${target} OBJECT ${arg_SRCS})
  target_include_directories(${target} PUBLIC ${HR_RUNTIME_INCLUDES})
  target_link_libraries(${target} PRIVATE hr_flags hr_runtime_flags PUBLIC ${deps} ${arg_LINK})
  set_property(GLOBAL APPEND PROPERTY HR_LIBRARIES ${target})
  set_property(GLOBAL APPEND PROPERTY HR_LIBRARY_LINKS ${arg_LINK})
endfunction()

# Makes libheadroom.a and libheadroom.so out of every hr_library declared so far.
function(hr_finish_libraries)
  get_property(parts GLOBAL PROPERTY HR_LIBRARIES)
  get_property(links GLOBAL PROPERTY HR_LIBRARY_LINKS)
  list(REMOVE_DUPLICATES links)
  set(objects "")
  foreach(part IN LISTS parts)
    list(APPEND objects "$<TARGET_OBJECTS:${part}>")
  endforeach()
  if(NOT objects)
    message(FATAL_ERROR "no folder of runtime/ declares an hr_library with sources")
  endif()
  add_library(headroom STATIC ${objects})
  add_library(headroom_shared SHARED ${objects})
  foreach(library headroom headroom_shared)
    set_target_properties(${library} PROPERTIES LINKER_LANGUAGE CXX OUTPUT_NAME headroom)
    target_include_directories(${library} PUBLIC
      "$<BUILD_INTERFACE:${HR_RUNTIME_INCLUDES}>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  endforeach()
  find_package(Threads REQUIRED)
  target_link_libraries(headroom PUBLIC ${links} Threads::Threads)
  set(exports "${PROJECT_SOURCE_DIR}/tools/cmake/exports.map")
  target_link_libraries(headroom_shared PRIVATE hr_flags ${links} Threads::Threads)
  target_link_options(headroom_shared PRIVATE
    "-Wl,--version-script=${exports}" -Wl,--exclude-libs,ALL -Wl,-z,max-page-size=16384)
  set_target_properties(headroom_shared PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS "${exports}")
endfunction()

function(hr_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT" "SRCS;DEPS;LINK")
  hr_target_names(deps ${arg_DEPS})
  add_executable(${name} ${arg_SRCS})
  if(arg_OUTPUT)
    set_target_properties(${name} PROPERTIES OUTPUT_NAME "${arg_OUTPUT}")
  endif()
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tools" ${HR_RUNTIME_INCLUDES})
  target_link_libraries(${name} PRIVATE hr_host_flags ${deps} ${arg_LINK})
endfunction()

function(hr_support_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SRCS;DEPS;LINK")
  hr_target_names(deps ${arg_DEPS})
  add_library(${name} STATIC ${arg_SRCS})
  target_include_directories(${name} PUBLIC
    "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}/tools" ${HR_RUNTIME_INCLUDES})
  target_link_libraries(${name} PRIVATE hr_host_flags PUBLIC ${deps} ${arg_LINK})
endfunction()

set(HR_TEST_RESULTS_DIR "${PROJECT_BINARY_DIR}/test-results")
file(MAKE_DIRECTORY "${HR_TEST_RESULTS_DIR}")

macro(hr_set_test_properties name)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  get_filename_component(folder "${CMAKE_CURRENT_SOURCE_DIR}" NAME)  # so that ctest -L chooses by folder
  set_tests_properties(${name} PROPERTIES
    LABELS "${folder};${arg_LABELS}" RUN_SERIAL "${arg_SERIAL}" TIMEOUT "${arg_TIMEOUT}" SKIP_RETURN_CODE 4
    ENVIRONMENT "HEADROOM_SOURCE_DIR=${PROJECT_SOURCE_DIR};HEADROOM_BUILD_DIR=${PROJECT_BINARY_DIR};HEADROOM_CLI=${PROJECT_BINARY_DIR}/bin/headroom")
endmacro()

function(hr_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT" "SRCS;DEPS;LINK;LABELS")
  hr_target_names(deps ${arg_DEPS})
  add_executable(${name} ${arg_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_include_directories(${name} PRIVATE
    "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}" ${HR_RUNTIME_INCLUDES})
  target_link_libraries(${name} PRIVATE hr_host_flags ${deps} ${arg_LINK} Catch2::Catch2WithMain)
  add_test(NAME ${name} COMMAND ${name} --reporter console --colour-mode none
    --reporter "xml::out=${HR_TEST_RESULTS_DIR}/${name}.xml")
  hr_set_test_properties(${name})
endfunction()

function(hr_plain_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT" "COMMAND;LABELS")
  add_test(NAME ${name} COMMAND ${arg_COMMAND})
  hr_set_test_properties(${name})
endfunction()

add_custom_target(fuzz_targets)  # all of them

function(hr_fuzz_target name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "CORPUS" "SRCS;DEPS;LINK")
  hr_target_names(deps ${arg_DEPS})
  set(replay "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc")
  if(HR_FUZZ)
    add_executable(${name} ${arg_SRCS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${arg_SRCS} "${replay}")
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fuzz")
  target_include_directories(${name} PRIVATE
    "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}" ${HR_RUNTIME_INCLUDES})
  target_link_libraries(${name} PRIVATE hr_host_flags ${deps} ${arg_LINK})
  add_dependencies(fuzz_targets ${name})
  if(arg_CORPUS AND NOT HR_FUZZ)
    get_filename_component(corpus "${arg_CORPUS}" ABSOLUTE)
    add_test(NAME ${name}_replay COMMAND ${name} "${corpus}")
    hr_set_test_properties(${name}_replay)
  endif()
endfunction()

# Adds each named sub-folder that exists with a CMakeLists.txt; folders appear as the project grows.
# A macro, so that what a folder sets with PARENT_SCOPE arrives where the folder was added.
macro(hr_add_folders)
  foreach(hr_folder ${ARGN})
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${hr_folder}/CMakeLists.txt")
      add_subdirectory(${hr_folder})
    endif()
  endforeach()
endmacro()
