# What `cmake --install` brings: the C header, both libraries, the command, a CMake package and a pkg-config file.
#   find_package(headroom)  ->  headroom::headroom (shared), headroom::headroom_static
#   pkg-config headroom     ->  shared; with --static the archive
include(CMakePackageConfigHelpers)

install(DIRECTORY "${PROJECT_SOURCE_DIR}/runtime/include/headroom" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(TARGETS headroom_shared LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(TARGET headroom_cli)
  install(TARGETS headroom_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/tools/THIRD_PARTY_NOTICES.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# The full licence text of everything a binary contains (FXdiv and friends come in through XNNPACK).
foreach(name xnnpack pthreadpool cpuinfo fxdiv fp16 flatbuffers highway pcre2 xxhash json cli11 protozero eigen utf8proc stb)
  if(NOT name IN_LIST HR_SYSTEM_DEPENDENCIES)
    hr_source(${name})
    file(GLOB texts "${${name}_SOURCE_DIR}/LICEN[CS]E*" "${${name}_SOURCE_DIR}/COPYING.MPL2")
    if(NOT texts)
      message(FATAL_ERROR "${name}: no licence text in ${${name}_SOURCE_DIR}")
    endif()
    list(GET texts 0 text)
    if(NOT IS_DIRECTORY "${text}")
      install(FILES "${text}" DESTINATION "${CMAKE_INSTALL_DOCDIR}/licences" RENAME "${name}.txt")
    endif()
  endif()
endforeach()

# The installed libheadroom.a holds the dependencies too, so that an app links one archive. Sanitizer builds are
# not for installing.
if(NOT HR_SANITIZE)
  set(bundle "${PROJECT_BINARY_DIR}/bundle/libheadroom.a")
  get_property(links GLOBAL PROPERTY HR_LIBRARY_LINKS)
  list(REMOVE_DUPLICATES links)
  if("XNNPACK" IN_LIST links)
    list(APPEND links microkernels-prod pthreadpool cpuinfo)
  endif()
  list(REMOVE_DUPLICATES links)
  set(script "CREATE ${bundle}\nADDLIB $<TARGET_FILE:headroom>\n")
  foreach(link IN LISTS links)
    if(TARGET ${link})
      get_target_property(type ${link} TYPE)
      if(type STREQUAL "STATIC_LIBRARY")
        string(APPEND script "ADDLIB $<TARGET_FILE:${link}>\n")
      endif()
    endif()
  endforeach()
  string(APPEND script "SAVE\nEND\n")
  file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/bundle/merge.ar" CONTENT "${script}")
  add_custom_command(OUTPUT "${bundle}"
    COMMAND "${CMAKE_COMMAND}" -E rm -f "${bundle}"
    COMMAND "${CMAKE_AR}" -M < "${PROJECT_BINARY_DIR}/bundle/merge.ar"
    DEPENDS headroom "${PROJECT_BINARY_DIR}/bundle/merge.ar" VERBATIM COMMENT "Bundling libheadroom.a")
  add_custom_target(headroom_bundle ALL DEPENDS "${bundle}")
  install(FILES "${bundle}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/headroom")
configure_package_config_file("${PROJECT_SOURCE_DIR}/tools/cmake/headroom-config.cmake.in"
  "${PROJECT_BINARY_DIR}/headroom-config.cmake" INSTALL_DESTINATION "${package_dir}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/headroom-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/headroom-config.cmake" "${PROJECT_BINARY_DIR}/headroom-config-version.cmake"
  DESTINATION "${package_dir}")

configure_file("${PROJECT_SOURCE_DIR}/tools/cmake/headroom.pc.in" "${PROJECT_BINARY_DIR}/headroom.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/headroom.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
