#!/usr/bin/env python3
"""The SBOM of the source is sound SPDX 2.3, names what the programs are linked with, and is the same each time.

usage: test_sbom.py PROGRAM... [ARCHIVE.tar]

An image's is looked at too where an archive is named that is there. Skipped by name where there is no dpkg.
"""

import json
import os
import re
import shutil
import subprocess
import sys

SBOM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../conf/container/sbom")
# SPDX 2.3: the keys that a document and a package must have (clauses 6 and 7)
DOCUMENT_KEYS = ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo")
PACKAGE_KEYS = ("SPDXID", "name", "downloadLocation")
KINDS = {"DESCRIBES", "CONTAINS", "DEPENDS_ON", "TEST_DEPENDENCY_OF"}


def need(condition, text):
    if not condition:
        sys.exit(f"FAIL {text}")


def make(*words):
    return subprocess.run([sys.executable, SBOM, *words], capture_output=True, text=True, check=True).stdout


def check(document):
    for key in DOCUMENT_KEYS:
        need(document.get(key), f"no {key}")
    need(document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0", "version or licence of the document")
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"]), "created")
    ids = [one["SPDXID"] for one in document["packages"]]
    need(len(ids) == len(set(ids)), "an SPDXID twice")
    for one in document["packages"]:
        need(all(one.get(key) for key in PACKAGE_KEYS), f"{one.get('name')}: a key is missing")
        need(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one["SPDXID"]), f"SPDXID {one['SPDXID']}")
        need(one["filesAnalyzed"] is False, f"{one['name']}: no files are listed")
    known = {*ids, "SPDXRef-DOCUMENT"}
    for one in document["relationships"]:
        need(one["relationshipType"] in KINDS, f"relationship {one['relationshipType']}")
        need({one["spdxElementId"], one["relatedSpdxElement"]} <= known, f"a relationship to nothing: {one}")
    related = {one["spdxElementId"] for one in document["relationships"]} | {one["relatedSpdxElement"] for one in document["relationships"]}
    need(set(ids) <= related, f"not related: {set(ids) - related}")
    return {one["name"]: one for one in document["packages"]}


def check_libraries(packages):
    for name, licence in (("libuv1", "MIT"), ("libssl3", "Apache-2.0"), ("zlib1g", "Zlib"), ("libyaml-0-2", "MIT")):
        need(name in packages, f"{name} is missing")
        need(packages[name]["licenseDeclared"] == licence, f"{name}: {packages[name]['licenseDeclared']}")
        need(re.match(r"[0-9:.]+", packages[name]["versionInfo"]), f"{name}: version {packages[name]['versionInfo']}")
    need(packages["libc6"]["licenseDeclared"] == "NOASSERTION", "a licence was guessed")
    need("cmake" not in packages, "a tool is not a part")


def check_image(packages):
    need(packages["taffrail-image"]["versionInfo"].startswith("sha256:"), "no digest of the image")
    need("libcmocka0" not in packages, "what tests need is in the image")
    for name, source in (("libcurl4", "curl"), ("libmicrohttpd12", "libmicrohttpd")):
        need(name in packages, f"{name} is missing")
        one = packages[name]
        told = f"built for the image from Debian's source package {source} {one['versionInfo']}"
        need(one.get("sourceInfo") == told and one["supplier"] == "NOASSERTION", f"{name} passes for Debian's own: {one}")
        need(one["externalRefs"][0]["referenceLocator"].startswith(f"pkg:deb/debian/{name}@"), f"{name}: scanners do not know it")
    need(not any("gnutls" in name for name in packages), "libraries that nobody calls")


def main():
    if shutil.which("dpkg-query") is None:
        print("skipped: the SBOM (no dpkg)")
        return
    archives = [word for word in sys.argv[1:] if word.endswith(".tar")]
    text = make("source", *[word for word in sys.argv[1:] if word not in archives])
    need(text == make("source", *[word for word in sys.argv[1:] if word not in archives]), "two runs differ")
    packages = check(json.loads(text))
    check_libraries(packages)
    need("libcmocka0" in packages or not os.path.exists("/usr/share/doc/libcmocka0"), "what tests need is missing")
    print(f"ok    source: {len(packages)} packages")
    for path in archives:
        if not os.path.exists(path):
            print("skipped: the SBOM of the image (none was built)")
            continue
        packages = check(json.loads(make("image", path)))
        check_libraries(packages)
        check_image(packages)
        print(f"ok    image: {len(packages)} packages")


if __name__ == "__main__":
    main()
