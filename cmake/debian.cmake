# SPDX-License-Identifier: MIT
#
# Run by cpack on what it is about to pack: adds what Debian's policy asks of a
# package, and nobody else wants installed.
if(NOT CPACK_GENERATOR STREQUAL DEB)
    return()
endif()

# The terms, in the format of Debian's copyright files.
file(STRINGS ${CPACK_RESOURCE_FILE_LICENSE} lines)
set(terms)
foreach(line IN LISTS lines)
    if(line MATCHES "^Copyright \\(c\\) (.*)")
        set(holder ${CMAKE_MATCH_1})
    elseif(holder AND line STREQUAL "")
        string(APPEND terms " .\n")
    elseif(holder)
        string(APPEND terms " ${line}\n")
    endif()
endforeach()
string(REGEX REPLACE "^ \\.\n" "" terms "${terms}")
set(copyright "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: libgreen

Files: *
Copyright: ${holder}
License: Expat
${terms}")

string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC) # or SOURCE_DATE_EPOCH
set(version ${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
set(changelog "libgreen (${version}) unstable; urgency=medium

  * Packages of libgreen ${CPACK_PACKAGE_VERSION}.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")

foreach(component runtime patch dev)
    string(TOUPPER ${component} upper)
    set(usr ${CPACK_TEMPORARY_DIRECTORY}/${component}/usr)
    set(doc ${usr}/share/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
    file(WRITE ${doc}/copyright "${copyright}")
    file(WRITE ${doc}/changelog.Debian "${changelog}")
    execute_process(COMMAND gzip -9n ${doc}/changelog.Debian RESULT_VARIABLE failed)

    file(GLOB_RECURSE libraries ${usr}/lib/*.a ${usr}/lib/*.so.*.*)
    foreach(library IN LISTS libraries)
        if(NOT failed)
            execute_process(
                COMMAND ${CPACK_GREEN_STRIP} --strip-unneeded --remove-section=.comment ${library}
                RESULT_VARIABLE failed)
        endif()
    endforeach()

    file(GLOB pages ${usr}/share/man/man*/*)
    foreach(page IN LISTS pages)
        if(NOT failed)
            execute_process(COMMAND gzip -9n ${page} RESULT_VARIABLE failed)
        endif()
    endforeach()
    if(failed)
        message(FATAL_ERROR "gzip or strip failed")
    endif()
endforeach()
execute_process(COMMAND chmod -R go=rX ${CPACK_TEMPORARY_DIRECTORY})
