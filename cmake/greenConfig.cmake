# SPDX-License-Identifier: MIT
#
#     find_package(green 0.1 REQUIRED [COMPONENTS static|shared])
#     target_link_libraries(your_program PRIVATE green::green)
#
# Where both kinds are installed it is the one asked for; else, if
# BUILD_SHARED_LIBS is set, the one it says; else the shared one.
cmake_policy(PUSH)
cmake_policy(VERSION 3.16)

set(_green_kinds shared static)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
    set(_green_kinds static shared)
endif()
if(green_FIND_COMPONENTS)
    set(_green_kinds ${green_FIND_COMPONENTS})
endif()

# Of components every one is wanted: only one can be.
set(_green_file)
foreach(_green_kind IN LISTS _green_kinds)
    if(NOT _green_file AND EXISTS ${CMAKE_CURRENT_LIST_DIR}/green-${_green_kind}.cmake)
        set(_green_file ${CMAKE_CURRENT_LIST_DIR}/green-${_green_kind}.cmake)
        set(green_${_green_kind}_FOUND TRUE)
    endif()
endforeach()
foreach(_green_kind IN LISTS green_FIND_COMPONENTS)
    if(NOT green_${_green_kind}_FOUND AND green_FIND_REQUIRED_${_green_kind})
        set(_green_file)
    endif()
endforeach()

if(_green_file)
    include(CMakeFindDependencyMacro)
    find_dependency(Threads)
    include(${_green_file})
else()
    set(green_FOUND FALSE)
    set(green_NOT_FOUND_MESSAGE "${CMAKE_CURRENT_LIST_DIR} does not have libgreen as asked for: \
${_green_kinds} (of static and shared it can be one)")
endif()
unset(_green_kinds)
unset(_green_kind)
unset(_green_file)
cmake_policy(POP)
