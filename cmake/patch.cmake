# SPDX-License-Identifier: MIT
#
# libgreen_patch: what is linked into a program (green::patch), and, where there is a shared
# libgreen, what is linked with a program or loaded before it by LD_PRELOAD
# (green::patch_shared; installed it is green::patch, too).  It needs glibc.
include(CheckSymbolExists)
check_symbol_exists(__GLIBC__ features.h GREEN_HAS_GLIBC)

set(green_patch_sources
    src/patch/real.c
    src/patch/wait.c
    src/patch/io.c
    src/patch/names.c
    src/patch/park.c
    src/patch/locks.c
    src/patch/conds.c
    src/patch/threads.c
    src/patch/process.c
    src/patch/patch.c)
list(TRANSFORM green_patch_sources PREPEND ${PROJECT_SOURCE_DIR}/)
if(NOT GREEN_HAS_GLIBC)
    return()
endif()

# The dynamic linker binds the libraries' calls to what the program exports.
set(names)
foreach(source IN LISTS green_patch_sources)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(STRINGS ${source} lines REGEX "^HOOK(_TOO)?\\(")
    foreach(line IN LISTS lines)
        string(REGEX REPLACE "^HOOK[^(]*\\([^,]*, *([A-Za-z0-9_]+).*" "    \\1;\n" name "${line}")
        string(APPEND names "${name}")
    endforeach()
endforeach()
set(green_patch_list ${PROJECT_BINARY_DIR}/green_patch.list)
file(WRITE ${green_patch_list}.new "{\n${names}};\n")
configure_file(${green_patch_list}.new ${green_patch_list} COPYONLY) # only if it has changed

# green_patch_library(NAME KIND GREEN): of a kind, with that libgreen.
function(green_patch_library name kind green)
    add_library(${name} ${kind} ${green_patch_sources})
    target_include_directories(${name} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> PRIVATE ${PROJECT_SOURCE_DIR}/src)
    # What is checked for overflows is called by other names, which are hooks here.
    target_compile_options(${name} PRIVATE ${strict} -fexceptions -U_FORTIFY_SOURCE)
    target_link_libraries(${name} PUBLIC ${green} ${CMAKE_DL_LIBS})
    set_target_properties(${name} PROPERTIES
        OUTPUT_NAME green_patch
        EXPORT_NAME patch
        C_VISIBILITY_PRESET hidden
        POSITION_INDEPENDENT_CODE ON
        VERSION ${PROJECT_VERSION}
        SOVERSION ${PROJECT_VERSION_MAJOR})
    if(kind STREQUAL SHARED)
        target_compile_definitions(${name} PRIVATE GREEN_SHARED) # see src/visible.h
        # The program's calls are bound to it for ever.
        target_link_options(${name} PRIVATE LINKER:-z,nodelete)
        # It finds libgreen beside it, whoever loads it; in /usr that is done by the system.
        if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
            set_target_properties(${name} PROPERTIES INSTALL_RPATH "$ORIGIN")
        endif()
    else()
        target_compile_definitions(${name} PRIVATE GREEN_STATIC)
        # patch.c names all hooks: who takes it takes all.
        if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
            set(installed ${CMAKE_INSTALL_LIBDIR})
        else()
            set(installed $<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR})
        endif()
        target_link_options(${name} INTERFACE LINKER:-u,green_patch
            $<BUILD_INTERFACE:LINKER:--dynamic-list=${green_patch_list}>
            $<INSTALL_INTERFACE:LINKER:--dynamic-list=${installed}/green_patch.list>)
    endif()
    if(NOT top AND NOT GREEN_INSTALL)
        set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
endfunction()

if(GREEN_INSTALL)
    include(GNUInstallDirs)
endif()
green_patch_library(green_patch STATIC green)
add_library(green::patch ALIAS green_patch)
set(green_patch_static green_patch) # with a static libgreen ...
set(green_patch_shared)             # ... and with a shared one, or nothing
foreach(target green green_other)
    if(TARGET ${target})
        get_target_property(type ${target} TYPE)
        if(type STREQUAL SHARED_LIBRARY)
            set(green_patch_shared green_patch_shared)
            green_patch_library(green_patch_shared SHARED ${target})
            add_library(green::patch_shared ALIAS green_patch_shared)
        elseif(target STREQUAL green_other)
            set(green_patch_static green_patch_other)
            green_patch_library(green_patch_other STATIC green_other)
        endif()
    endif()
endforeach()
get_target_property(type green TYPE)
if(type STREQUAL SHARED_LIBRARY AND NOT TARGET green_other)
    set(green_patch_static)
endif()
