# SPDX-License-Identifier: MIT
#
# What is installed, and what finds it again: greenConfig.cmake for CMake,
# green.pc for pkg-config.  Both find the rest from where they are, so that a
# prefix may be moved or be chosen late, by cmake --install --prefix.
#
# Components: runtime is what a program that is linked with the shared library
# needs, patch what it needs beside if it is patched, dev is all else.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# ---- Libraries and headers --------------------------------------------------

# Static and shared may be installed side by side, also from two builds: each
# has an export of its own, and greenConfig.cmake takes one of them.
foreach(target green green_other)
    if(TARGET ${target})
        get_target_property(type ${target} TYPE)
        if(type STREQUAL SHARED_LIBRARY)
            set(kind shared)
        else()
            set(kind static)
        endif()
        set(installs_${kind} ON)
        install(TARGETS ${target} EXPORT green-${kind}
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
            LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev
            INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
        install(EXPORT green-${kind}
            NAMESPACE green:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/green COMPONENT dev)
    endif()
endforeach()

# The same for libgreen_patch, which is not for every C library.
set(not_here PATTERN green_patch.h EXCLUDE)
if(green_patch_static)
    set(not_here)
    install(TARGETS ${green_patch_static} EXPORT green-static
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
    install(FILES ${green_patch_list} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
endif()
if(green_patch_shared)
    set(not_here)
    install(TARGETS ${green_patch_shared} EXPORT green-shared
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT patch NAMELINK_COMPONENT dev)
endif()

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev ${not_here})

# ---- gdb ----------------------------------------------------------------------

# Programs with the static library name the file: see CMakeLists.txt.  That of the
# shared one has the library's name.  Below /usr it is in gdb's own directory, which
# gdb trusts; elsewhere gdb looks for it beside the library alone, and says how to
# have it trusted.
set(gdb_script ${PROJECT_SOURCE_DIR}/src/gdb/green-gdb.py)
set(gdb_directory ${CMAKE_INSTALL_DATADIR}/gdb/auto-load)
if(installs_static)
    install(FILES ${gdb_script} DESTINATION ${gdb_directory} COMPONENT dev)
endif()
if(installs_shared)
    if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
        set(gdb_directory ${gdb_directory}/${CMAKE_INSTALL_FULL_LIBDIR})
    else()
        set(gdb_directory ${CMAKE_INSTALL_LIBDIR})
    endif()
    install(FILES ${gdb_script} DESTINATION ${gdb_directory}
        RENAME libgreen.so.${PROJECT_VERSION}-gdb.py COMPONENT dev)
endif()

# ---- find_package(green) ----------------------------------------------------

write_basic_package_version_file(${PROJECT_BINARY_DIR}/greenConfigVersion.cmake
    COMPATIBILITY SameMajorVersion) # as the SONAME
install(FILES
    ${PROJECT_SOURCE_DIR}/cmake/greenConfig.cmake ${PROJECT_BINARY_DIR}/greenConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/green COMPONENT dev)

# ---- pkg-config -------------------------------------------------------------

# From lib/x86_64-linux-gnu/pkgconfig it is three directories up to the prefix.
# Whoever sets an absolute directory has chosen the prefix too.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
    set(pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
    string(REGEX REPLACE "[^/]+" ".." up ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
    set(pc_prefix "\${pcfiledir}/${up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE ${CMAKE_INSTALL_${dir}})
        set(pc_${dir} ${CMAKE_INSTALL_${dir}})
    else()
        set(pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
    endif()
endforeach()
foreach(dir prefix LIBDIR INCLUDEDIR)
    string(REPLACE " " "\\ " pc_${dir} "${pc_${dir}}")
endforeach()
if(installs_shared)
    set(pc_private -pthread)
else()
    set(pc_public " -pthread") # there is only the static library to link with
endif()
set(pc_names green)
if(green_patch_shared OR green_patch_static)
    list(APPEND pc_names green_patch)
endif()
if(NOT green_patch_shared)
    set(pc_whole "-Wl,-u,green_patch -Wl,--dynamic-list=\${libdir}/green_patch.list ")
endif()
foreach(name IN LISTS pc_names)
    configure_file(${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
endforeach()
