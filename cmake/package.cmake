# SPDX-License-Identifier: MIT
#
# What cpack makes of a build directory (CMake 3.19 or later): a tar.gz of all
# that is installed, and, where both libraries are built, Debian's packages
# libgreen0, libgreen-patch0 and libgreen-dev.
set(CPACK_PACKAGE_NAME libgreen)
set(CPACK_PACKAGE_VENDOR "The libgreen authors")
set(CPACK_PACKAGE_CONTACT "The libgreen authors <libgreen@libgreen.invalid>" CACHE STRING
    "Who makes the packages: Name <address>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "stackful coroutines that switch to one another")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGE_FILE_NAME
    libgreen-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES ON)
set(CPACK_GREEN_STRIP ${CMAKE_STRIP}) # for debian.cmake
set(CPACK_GENERATOR TGZ)
set(CPACK_VERBATIM_VARIABLES ON)

if(TARGET green_other)
    list(APPEND CPACK_GENERATOR DEB)
    set(soname libgreen${PROJECT_VERSION_MAJOR})
    set(patch_soname libgreen-patch${PROJECT_VERSION_MAJOR})
    set(CPACK_COMPONENTS_ALL runtime patch dev)
    set(CPACK_DEB_COMPONENT_INSTALL ON)
    set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
    set(CPACK_DEBIAN_PACKAGE_RELEASE 0upstream1) # less than any of Debian's own
    set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
    set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
    set(about "Functions that keep their place: a green is a coroutine with a stack of its
own, so it may switch to another from any depth of calls, carrying a value.
Every green has a parent, which receives its result when it ends; an error
may be thrown into one that waits.  For C and C++, on the C library alone.")
    set(CPACK_COMPONENT_RUNTIME_DESCRIPTION "${about}\n\nThis package has the shared library.")
    set(CPACK_COMPONENT_PATCH_DESCRIPTION "${about}\n
This package has the library by which others wait as tasks do, unchanged.")
    set(CPACK_COMPONENT_DEV_DESCRIPTION
        "${about}\n\nThis package has the headers, the static libraries and the manual pages.")

    set(this ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
    set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${soname})
    set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
    set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
    set(CPACK_DEBIAN_DEV_PACKAGE_NAME libgreen-dev)
    set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
    set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS
        "${soname} (= ${this}), ${patch_soname} (= ${this}), libc6-dev")

    set(CPACK_DEBIAN_PATCH_PACKAGE_NAME ${patch_soname})
    set(CPACK_DEBIAN_PATCH_PACKAGE_SECTION libs)
    set(CPACK_DEBIAN_PATCH_PACKAGE_SHLIBDEPS ON)
    set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}) # libgreen itself
    set(CPACK_DEBIAN_PATCH_PACKAGE_DEPENDS "${soname} (= ${this})")

    # A symbol of the node GREEN_0.1 needs version 0.1 of the package.
    set(debian ${PROJECT_BINARY_DIR}/debian)
    file(WRITE ${debian}/triggers "activate-noawait ldconfig\n")
    set(least ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
    file(WRITE ${debian}/patch/triggers "activate-noawait ldconfig\n")
    file(WRITE ${debian}/patch/shlibs
        "libgreen_patch ${PROJECT_VERSION_MAJOR} ${patch_soname} (>= ${least})\n")
    file(WRITE ${debian}/shlibs "libgreen ${PROJECT_VERSION_MAJOR} ${soname} (>= ${least})\n")
    set(symbols "libgreen.so.${PROJECT_VERSION_MAJOR} ${soname} #MINVER#\n\
* Build-Depends-Package: libgreen-dev\n")
    file(STRINGS ${PROJECT_SOURCE_DIR}/cmake/green.map lines REGEX "^(GREEN_| *green_)")
    foreach(line IN LISTS lines)
        if(line MATCHES "^(GREEN_([0-9.]+))")
            set(node ${CMAKE_MATCH_1})
            set(since ${CMAKE_MATCH_2})
            string(APPEND symbols " ${node}@${node} ${since}\n")
        elseif(line MATCHES "(green_[a-z0-9_]+)")
            string(APPEND symbols " ${CMAKE_MATCH_1}@${node} ${since}\n")
        endif()
    endforeach()
    file(WRITE ${debian}/symbols "${symbols}")
    set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA
        ${debian}/triggers ${debian}/shlibs ${debian}/symbols)

    set(CPACK_DEBIAN_PATCH_PACKAGE_CONTROL_EXTRA ${debian}/patch/triggers ${debian}/patch/shlibs)

    set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/debian.cmake)
endif()

include(CPack)
