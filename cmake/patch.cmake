# SPDX-License-Identifier: MIT
#
# libgreen_patch: what is linked into a program (green::patch), and what is loaded
# before a program by LD_PRELOAD, or linked with it (green::patch_shared), where there is a
# shared libgreen.  It needs glibc.
include(CheckSymbolExists)
check_symbol_exists(__GLIBC__ features.h GREEN_HAS_GLIBC)

set(green_patch_sources
    src/patch/real.c
    src/patch/wait.c
    src/patch/io.c
    src/patch/names.c
    src/patch/locks.c
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
    file(STRINGS ${source} lines REGEX "^HOOK\\(")
    foreach(line IN LISTS lines)
        string(REGEX REPLACE "^HOOK\\([^,]*, *([A-Za-z0-9_]+).*" "    \\1;\n" name "${line}")
        string(APPEND names "${name}")
    endforeach()
endforeach()
file(WRITE ${PROJECT_BINARY_DIR}/green_patch.list "{\n${names}};\n")

# What a library of these sources is compiled with, but for libgreen.
function(green_patch_library name)
    target_include_directories(${name} PUBLIC
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> PRIVATE ${PROJECT_SOURCE_DIR}/src)
    target_compile_options(${name} PRIVATE ${strict} -fexceptions -U_FORTIFY_SOURCE
        -fno-optimize-sibling-calls)
    target_link_libraries(${name} PUBLIC ${CMAKE_DL_LIBS})
    set_target_properties(${name} PROPERTIES OUTPUT_NAME green_patch C_VISIBILITY_PRESET hidden
        POSITION_INDEPENDENT_CODE ON)
endfunction()

add_library(green_patch STATIC ${green_patch_sources})
add_library(green::patch ALIAS green_patch)
green_patch_library(green_patch)
set_target_properties(green_patch PROPERTIES EXPORT_NAME patch)
target_link_libraries(green_patch PUBLIC green)
# patch.c names all hooks: who takes it takes all.
target_link_options(green_patch INTERFACE LINKER:-u,green_patch
    $<BUILD_INTERFACE:LINKER:--dynamic-list=${PROJECT_BINARY_DIR}/green_patch.list>)
