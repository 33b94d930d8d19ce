# What `cmake --install` puts where, and the Debian package of it (`./dev package`).

set(doc_folder /usr/share/doc/taffrail)
set(package_folder ${PROJECT_BINARY_DIR}/package)
set(packed "")

# Debian wants these compressed, and gzip -n keeps no time.
function(pack source name destination)
    add_custom_command(OUTPUT ${package_folder}/${name}.gz
                       COMMAND gzip -9nc ${source} >${package_folder}/${name}.gz
                       DEPENDS ${source})
    install(FILES ${package_folder}/${name}.gz DESTINATION ${destination})
    set(packed ${packed} ${package_folder}/${name}.gz PARENT_SCOPE)
endfunction()

file(MAKE_DIRECTORY ${package_folder})
foreach(page ${manual_pages})
    string(REGEX REPLACE ".*[.]" "" section ${page})
    pack(${PROJECT_BINARY_DIR}/manual/${page} ${page} /usr/share/man/man${section})
endforeach()
pack(${PROJECT_SOURCE_DIR}/CHANGELOG.md changelog ${doc_folder})
pack(${PROJECT_SOURCE_DIR}/conf/debian/changelog changelog.Debian ${doc_folder})
add_custom_target(package_files DEPENDS ${packed})
add_dependencies(package_files manual taffrail)
if(TARGET taffrail-journal)
    add_dependencies(package_files taffrail-journal)
    install(TARGETS taffrail-journal DESTINATION /usr/libexec/taffrail)
endif()

install(TARGETS taffrail DESTINATION /usr/sbin)
install(FILES conf/taffrail.yaml DESTINATION /etc/taffrail)
install(FILES conf/systemd/taffrail.service DESTINATION /usr/lib/systemd/system)
install(FILES conf/systemd/taffrail.sysusers DESTINATION /usr/lib/sysusers.d RENAME taffrail.conf)
install(FILES conf/systemd/taffrail.tmpfiles DESTINATION /usr/lib/tmpfiles.d RENAME taffrail.conf)
install(FILES ${PROJECT_BINARY_DIR}/manual/taffrail.bash
        DESTINATION /usr/share/bash-completion/completions RENAME taffrail)
install(FILES ${PROJECT_BINARY_DIR}/manual/_taffrail DESTINATION /usr/share/zsh/vendor-completions)
install(FILES ${PROJECT_BINARY_DIR}/manual/taffrail.fish DESTINATION /usr/share/fish/vendor_completions.d)
file(GLOB doc_pages CONFIGURE_DEPENDS docs/*.md)
install(FILES README.md SECURITY.md conf/debian/copyright ${doc_pages} DESTINATION ${doc_folder})
install(FILES conf/collector.yaml conf/forensic.yaml DESTINATION ${doc_folder}/examples)
install(FILES conf/debian/lintian-overrides DESTINATION /usr/share/lintian/overrides RENAME taffrail)

# Two places for one version would drift apart.
file(STRINGS conf/debian/changelog changelog_head LIMIT_COUNT 1)
if(NOT changelog_head MATCHES "^taffrail \\(${PROJECT_VERSION}-([0-9]+)\\) ")
    message(FATAL_ERROR "conf/debian/changelog begins with another version than ${PROJECT_VERSION}")
endif()
set(CPACK_DEBIAN_PACKAGE_RELEASE ${CMAKE_MATCH_1})

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON) # /etc is not below /usr
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
    WORLD_READ WORLD_EXECUTE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_SOURCE_DIR}/build/package)
set(CPACK_PACKAGE_NAME taffrail)
set(CPACK_PACKAGE_CONTACT "The taffrail maintainers <maintainers@taffrail.invalid>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The user and the service's folder are made by systemd's programs; its standalone ones will do.
set(CPACK_DEBIAN_PACKAGE_DEPENDS
    "systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles, init-system-helpers (>= 1.54~)")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "ships logs, redacted, over mutual TLS
Taffrail reads the logs of containers, of the systemd journal and of plain
files, takes secrets out of them before anything touches the disk or the
network, keeps them in an encrypted, tamper-evident spool, and sends them to
a collector, each line exactly once.
.
The same program is the agent, the collector, and the tool to search and
prove what was kept.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${PROJECT_SOURCE_DIR}/conf/debian/conffiles ${PROJECT_SOURCE_DIR}/conf/debian/postinst
    ${PROJECT_SOURCE_DIR}/conf/debian/prerm ${PROJECT_SOURCE_DIR}/conf/debian/postrm)
include(CPack)
