# SPDX-License-Identifier: MIT
#
# The target `amalgamation` leaves libgreen in three files, green.h, green.c and
# green.S, in the directory `amalgamation` of the build; any other public header
# lies beside them for those who want it.  GREEN_AMALGAMATED builds the library
# from these, so that all tests can be run on them.
option(GREEN_AMALGAMATED "Build libgreen from what the target amalgamation makes" OFF)
mark_as_advanced(GREEN_AMALGAMATED)

find_program(GREEN_AWK awk)
mark_as_advanced(GREEN_AWK)

set(dir ${PROJECT_BINARY_DIR}/amalgamation)
file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*)
file(GLOB_RECURSE parts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*)
list(TRANSFORM green_sources PREPEND ${PROJECT_SOURCE_DIR}/ OUTPUT_VARIABLE green_source_files)
set(green_amalgamated_from ${green_source_files} ${headers})

set(made ${dir}/green.c ${dir}/green.S)
foreach(header IN LISTS headers)
    get_filename_component(name ${header} NAME)
    list(APPEND made ${dir}/${name})
endforeach()
add_custom_command(OUTPUT ${made}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${dir}
    COMMAND ${GREEN_AWK} -f ${PROJECT_SOURCE_DIR}/cmake/amalgamate.awk
        -v root=${PROJECT_SOURCE_DIR} -v dir=${dir} -v version=${PROJECT_VERSION}
        ${green_amalgamated_from}
    DEPENDS ${PROJECT_SOURCE_DIR}/cmake/amalgamate.awk ${PROJECT_SOURCE_DIR}/LICENSE
        ${headers} ${parts}
    VERBATIM)
add_custom_target(amalgamation DEPENDS ${made})

if(GREEN_AMALGAMATED)
    set(green_sources ${dir}/green.c ${dir}/green.S)
    set_property(TARGET green PROPERTY SOURCES ${green_sources} ${made})
    target_compile_options(green PRIVATE -Wno-shadow) # what is a local here may be static elsewhere
    target_include_directories(green BEFORE PUBLIC $<BUILD_INTERFACE:${dir}>)
endif()
