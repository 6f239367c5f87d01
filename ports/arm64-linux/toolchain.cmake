# Cross compilation for 64-bit Arm Linux with Debian's compiler (package g++-aarch64-linux-gnu).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# Programs from the build machine, never libraries or packages of it.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Tests run under qemu-user (package qemu-user); the environment variable QEMU_CPU chooses the core, default max.
find_program(HR_QEMU_AARCH64 NAMES qemu-aarch64 qemu-aarch64-static)
if(HR_QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${HR_QEMU_AARCH64};-L;/usr/aarch64-linux-gnu")
endif()
