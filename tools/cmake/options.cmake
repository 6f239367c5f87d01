# What a user may set, and the build-wide defaults that follow from it.
include(GNUInstallDirs)

option(HR_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(HR_WERROR "Treat warnings in our own code as errors" ${PROJECT_IS_TOP_LEVEL})
option(HR_FUZZ "Build the fuzz targets with libFuzzer (clang only)" OFF)
set(HR_SANITIZE "" CACHE STRING "Sanitizers for our own code, for example address,undefined")
set(HR_PORT "linux" CACHE STRING "Folder under ports/ that implements base/platform.h")
set(HR_FLATC "" CACHE FILEPATH "FlatBuffers compiler of the pinned version that runs on this machine; empty: build it")
set(HR_HOST_TOOLS_DIR "${PROJECT_BINARY_DIR}/host-tools" CACHE PATH "Where tools that run at build time are built")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # the static parts also end in libheadroom.so
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_LINK_DEPENDS_NO_SHARED ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")

find_program(HR_CCACHE ccache)
mark_as_advanced(HR_CCACHE)
foreach(language C CXX)
  if(HR_CCACHE AND NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
    set(CMAKE_${language}_COMPILER_LAUNCHER "${HR_CCACHE}")
  endif()
endforeach()
