#!/usr/bin/python3
"""test_refusals.py TAFFRAIL - nobody in between, nobody uninvited, at either end.

Clients: without a certificate, of another CA, expired, not in `allow`. Servers: of another CA,
expired, with another name, with no certificate for servers. Each is refused, a message names the
reason, and not one record arrives.
"""

import datetime
import os
import socket
import ssl
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness import CriFile, Failed, House, PATIENCE, need, wait_until


def read_pem(path, load):
    with open(path, "rb") as file:
        return load(file.read())


def issue(house, name, ca, *, uri=None, ip=None, dns=None, usage=ExtendedKeyUsageOID.CLIENT_AUTH, days=(-2, 10)):
    """Writes pki/NAME.pem and NAME.key, signed by ca = (certificate, key)."""
    now = datetime.datetime.now(datetime.timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.UniformResourceIdentifier(uri)] if uri else []
    names += [x509.IPAddress(ip)] if ip else []
    names += [x509.DNSName(dns)] if dns else []
    certificate = (x509.CertificateBuilder()
                   .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
                   .issuer_name(ca[0].subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now + datetime.timedelta(days=days[0]))
                   .not_valid_after(now + datetime.timedelta(days=days[1]))
                   .add_extension(x509.BasicConstraints(False, None), True)
                   .add_extension(x509.ExtendedKeyUsage([usage]), False)
                   .add_extension(x509.SubjectAlternativeName(names), False)
                   .sign(ca[1], hashes.SHA256()))
    with open(house.path("pki", f"{name}.pem"), "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    path = house.path("pki", f"{name}.key")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()))


def authorities(house):
    """The house's own CA, and one that nobody trusts."""
    own = (read_pem(house.path("pki/ca.pem"), x509.load_pem_x509_certificate),
           read_pem(house.path("pki/ca.key"), lambda data: serialization.load_pem_private_key(data, None)))
    house.run("pki", "init", "--name", "Other", house.path("pki/other"))
    other = (read_pem(house.path("pki/other/ca.pem"), x509.load_pem_x509_certificate),
             read_pem(house.path("pki/other/ca.key"), lambda data: serialization.load_pem_private_key(data, None)))
    return own, other


def agent_with(house, name):
    house.configure_agent(outputs=f"""  - forward:
      hosts: ["127.0.0.1:{house.port}"]
      tls: {house.tls(name)}
""", agent="host: node-1, stop_timeout: 100ms")
    return house.start("agent")


def refused(house, what, agent, collector, agent_words, collector_words):
    """Both logs name the reason; nothing is stored; a lost word fails with both logs."""
    def named():
        return (any(word in agent.text() for word in agent_words) and
                any(word in collector.text() for word in collector_words))
    wait_until(named, 10, lambda: f"{what}: no word of {agent_words} / {collector_words}\nagent:\n{agent.tail()}\n"
               f"collector:\n{collector.tail()}")
    need(agent.stop() == 0, agent.tail())
    need(house.records() == [], f"{what}: something was stored")
    print(f"ok    {what}", flush=True)


def hostile_clients(house, own, other):
    issue(house, "expired", own, uri="spiffe://demo/node/old", days=(-20, -1))
    issue(house, "stranger", other, uri="spiffe://demo/node/node-1")
    issue(house, "unlisted", own, uri="spiffe://elsewhere/node/7")
    house.configure_collector()
    try:
        agent_with(house, "expired")
    except Failed as failed:
        need("expired on" in str(failed), str(failed))
        print("ok    an agent with an expired certificate does not start")
    for name, agent_words, collector_words in (
            ("stranger", ["unknown_ca"], ["other CA"]),
            ("unlisted", ["closed", "refused", "not allowed"], ["spiffe://elsewhere/node/7"])):
        collector = house.start("collector")
        refused(house, f"client certificate: {name}", agent_with(house, name), collector, agent_words, collector_words)
        need(collector.stop() == 0, collector.tail())


def raw_client(house, what, name, words):
    """A client that is not ours sends a message; it is refused, by a reason that the log names."""
    collector = house.start("collector")
    context = ssl.create_default_context(cafile=house.path("pki/ca.pem"))
    if name:
        context.load_cert_chain(house.path(f"pki/{name}.pem"), house.path(f"pki/{name}.key"))
    try:
        with socket.create_connection(("127.0.0.1", house.port)) as raw, \
                context.wrap_socket(raw, server_hostname="127.0.0.1") as link:
            link.sendall(b"\x93\xa4evil\x91\x92\x00\x81\xa3log\xa4evil\x80")
            need(link.recv(100) == b"", f"{what}: an answer")
    except (ssl.SSLError, ConnectionError) as error:
        print(f"      the client was told: {error}")
    wait_until(lambda: any(word in collector.text().split("event=ready")[1] for word in words), 10,
               lambda: f"{what}: no word of {words}\n" + collector.tail())
    need(house.records() == [], f"{what}: something was stored")
    need(collector.stop() == 0, collector.tail())
    print(f"ok    {what}", flush=True)


def hostile_servers(house, own, other):
    import ipaddress
    here = ipaddress.ip_address("127.0.0.1")
    server = ExtendedKeyUsageOID.SERVER_AUTH
    issue(house, "server-expired", own, ip=here, usage=server, days=(-20, -1))
    issue(house, "server-stranger", other, ip=here, usage=server)
    issue(house, "server-name", own, dns="logs.example.org", usage=server)
    issue(house, "server-usage", own, ip=here, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    for name, words in (("server-expired", ["expired"]), ("server-stranger", ["other CA"]),
                        ("server-name", ["logs.example.org"]), ("server-usage", ["usage"])):
        received = b""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(house.path(f"pki/{name}.pem"), house.path(f"pki/{name}.key"))
        with socket.create_server(("127.0.0.1", house.port), reuse_port=False) as listener:
            agent = agent_with(house, "node-1")
            listener.settimeout(10 * PATIENCE)
            raw, _ = listener.accept()
            raw.settimeout(5 * PATIENCE)
            try:
                with context.wrap_socket(raw, server_side=True) as link:
                    received = link.recv(100)
            except (ssl.SSLError, OSError):
                pass
            wait_until(lambda: any(word in agent.text() for word in words), 10,
                       lambda: f"{name}: no word of {words}\n{agent.tail()}")
        need(received == b"", f"{name}: the agent sent {received!r}")
        need("event=output-up" not in agent.text(), f"{name}: called up")
        need(agent.stop() == 0, agent.tail())
        print(f"ok    {name}", flush=True)


def main(binary):
    with House(binary) as house:
        house.make_pki()
        own, other = authorities(house)
        file = CriFile(house, "shop", "pay-0", "11111111")
        file.write([f"line {number}" for number in range(100)])
        hostile_clients(house, own, other)
        raw_client(house, "client without certificate", None, ["certificate"])
        raw_client(house, "client with an expired certificate", "expired", ["expired"])
        hostile_servers(house, own, other)
        collector, agent = house.start("collector"), agent_with(house, "node-1")
        wait_until(lambda: len(house.records()) == 100, 15, lambda: f"the right one is refused\n{agent.tail()}")
        need(agent.stop() == 0 and collector.stop() == 0, "stop")
        print("ok    the right ones: 100 lines")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
