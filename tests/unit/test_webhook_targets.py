"""Where webhooks may go: public addresses alone, whatever a URL or a name says."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import UrlRefused
from app.domain.webhook_target import LONGEST, is_public, target_of

SECURE = target_of("https://hooks.example.com/", allow_loopback=True)
PLAIN = target_of("http://hooks.example.com/", allow_loopback=True)

INWARD = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255"),
    *("172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
    *("100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.7", "203.0.113.9", "192.88.99.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254"),
    *("::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "64:ff9b:1:ffff::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    *("2001:db8::1", "2001:2::1", "2001:10::1", "2001:20::1", "3fff::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1"),
    *("5f00::1", "4000::1"),
)
OUTWARD = ("8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255")
OUTWARD_6 = ("2606:4700:4700::1111", "2a00:1450:4001::1", "2620:fe::fe")


@pytest.mark.parametrize("written", INWARD)
def test_nothing_leads_inward_or_nowhere(written: str) -> None:
    address = ip_address(written)
    assert not is_public(address)
    assert not SECURE.permits(address, allow_loopback=False)


@pytest.mark.parametrize("written", [*OUTWARD, *OUTWARD_6])
def test_the_public_internet_is_reached_by_https_alone(written: str) -> None:
    address = ip_address(written)
    assert SECURE.permits(address, allow_loopback=False)
    assert SECURE.permits(address, allow_loopback=True)
    assert not PLAIN.permits(address, allow_loopback=True)


@pytest.mark.parametrize("written", ["127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_for_development_and_opens_nothing_else(written: str) -> None:
    assert SECURE.permits(ip_address(written), allow_loopback=True)
    assert PLAIN.permits(ip_address(written), allow_loopback=True)
    for inward in ("10.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0"):
        assert not SECURE.permits(ip_address(inward), allow_loopback=True)
        assert not PLAIN.permits(ip_address(inward), allow_loopback=True)


@given(st.ip_addresses())
def test_what_python_knows_as_special_is_never_public(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443, "/"),
        ("https://Hooks.Example.com/a/b?c=%20d", "hooks.example.com", 443, "/a/b?c=%20d"),
        ("https://hooks.example.com:8443/x", "hooks.example.com", 8443, "/x"),
        ("https://xn--bcher-kva.example/x?y", "xn--bcher-kva.example", 443, "/x?y"),
        ("https://[2606:4700:4700::1111]:444/", "2606:4700:4700::1111", 444, "/"),
        ("https://a_b.example.com/", "a_b.example.com", 443, "/"),
    ],
)
def test_a_url_is_taken_apart_as_it_is_sent(url: str, host: str, port: int, path: str) -> None:
    target = target_of(url, allow_loopback=False)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://hooks.example.com/", "not_one_of"),
        ("ftp://hooks.example.com/", "not_one_of"),
        ("file:///etc/passwd", "not_one_of"),
        ("javascript:alert(1)", "not_one_of"),
        ("//hooks.example.com/", "not_one_of"),
        ("hooks.example.com", "not_one_of"),
        ("https://me:secret@hooks.example.com/", "wrong_format"),
        ("https://me@hooks.example.com/", "wrong_format"),
        ("https://hooks.example.com@10.0.0.1/", "wrong_format"),
        ("https://hooks.example.com/#there", "wrong_format"),
        ("https://hooks.example.com/#", "wrong_format"),
        ("https://hooks.example.com:0/", "out_of_range"),
        ("https://hooks.example.com:/", "out_of_range"),
        ("https://hooks.example.com:65536/", "out_of_range"),
        ("https://hooks.example.com:abc/", "out_of_range"),
        ("https:///path", "wrong_format"),
        ("https://", "wrong_format"),
        ("https://exa mple.com/", "wrong_format"),
        ("https://example.com/\r\nX: y", "wrong_format"),
        ("https://example.com/\tx", "wrong_format"),
        ("https://example.com\\@10.0.0.1/", "wrong_format"),
        ("https://bücher.example/", "wrong_format"),
        ("https://%31%30.0.0.1/", "wrong_format"),
        ("https://[fe80::1%25eth0]/", "wrong_format"),
        ("https://[::1", "wrong_format"),
        ("https://-x.example.com/", "wrong_format"),
        ("https://example.com./", "wrong_format"),
        ("https://example.com/" + "x" * LONGEST, "too_long"),
    ],
)
def test_what_is_no_plain_https_url_is_refused_where_it_stands(url: str, code: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        target_of(url, allow_loopback=False)
    assert [(breach.pointer, breach.code) for breach in refused.value.errors] == [("/url", code)]


def test_a_dot_at_the_end_of_a_host_is_said_to_be_the_reason() -> None:
    with pytest.raises(UrlRefused, match="dot"):
        target_of("https://localhost./", allow_loopback=True)
