"""The address table, row by row: first and last address of each range, and the public neighbours outside it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.sdk.security.addresses import parse_address, why_not_public
from tests.sdk.security.open_web import HOSTILE_URLS, PUBLIC_ADDRESSES

# From the IANA special-purpose registries, written out here once more: the table is not its own witness.
NOT_PUBLIC = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64"),
    *("100:0:0:1::/64", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48"),
    *("2001:10::/28", "2001:20::/28", "2001:30::/28", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48"),
    *("3ffe::/16", "3fff::/20", "4000::/3", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
)
# What Python 3.11 to 3.13 call global in one patch release or another, though none of it is the public Internet.
CALLED_GLOBAL = (
    *("64:ff9b::7f00:1", "2002:7f00:1::", "192.0.0.192", "::ffff:100.100.100.200", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("fec0::1", "3fff::1", "5f00::1", "224.0.0.1", "ff0e::1", "168.63.129.16"),
)


@pytest.mark.parametrize("network", NOT_PUBLIC)
def test_both_ends_of_every_special_range_are_refused(network: str) -> None:
    row = ip_network(network)

    assert why_not_public(row[0]) and why_not_public(row[-1])


@pytest.mark.parametrize("address", CALLED_GLOBAL)
def test_what_the_standard_library_has_called_global_is_refused(address: str) -> None:
    assert why_not_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"],
        *["168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"],
        *["191.255.255.255", "192.0.1.0", "192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255"],
        *["192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "192.175.47.255"],
        *["192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255"],
        *["203.0.114.0", "223.255.255.255", "2000::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2001:ffff::"],
        *["2003::", "2620:4f:7fff::", "2620:4f:8001::", "3ffd:ffff::", "3fff:1000::", "2a00:1450:4001:800::200e"],
        *["2606:2800::5eff:10.0.0.1", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", *sorted(PUBLIC_ADDRESSES)],
    ],
)
def test_the_neighbours_of_the_special_ranges_are_public(address: str) -> None:
    assert why_not_public(ip_address(address)) is None


@given(st.integers(0, 2**128 - 1))
def test_in_ipv6_only_global_unicast_can_be_public(number: int) -> None:
    if number >> 125 != 1:
        assert why_not_public(IPv6Address(number))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0xFFFF << 32, 0xFFFF << 48, 0x64FF9B << 96, 0x20010000 << 96]))
def test_an_ipv4_address_inside_an_ipv6_one_is_refused_whatever_it_is(number: int, prefix: int) -> None:
    assert why_not_public(IPv6Address(prefix | number))
    assert why_not_public(IPv6Address(0x2002 << 112 | number << 80))
    assert why_not_public(IPv6Address(0x26062800 << 96 | 0x5EFE << 32 | number))


@given(st.integers(0, 2**32 - 1))
def test_a_dotted_quad_is_read_as_written(number: int) -> None:
    assert parse_address(str(IPv4Address(number))) == IPv4Address(number)


@given(st.integers(0, 2**128 - 1))
def test_ipv6_is_read_in_every_length_it_is_written_in(number: int) -> None:
    address = IPv6Address(number)

    assert parse_address(address.compressed) == parse_address(address.exploded.upper()) == address


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "1",
            "1.2",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.04",
            "1.2.3.256",
            "0x1.2.3.4",
            "1.2.3.4 ",
            " 1.2.3.4",
        ],
        *[
            "1.2.3.4\n",
            "1.2.3.-4",
            "+1.2.3.4",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "\u0661.2.3.4",
            "\uff11.2.3.4",
            "1.2.3.4/8",
            "::1%lo",
        ],
        *[
            "::1%",
            "[::1]",
            "::1 ",
            ":",
            ":::",
            "1::2::3",
            "::12345",
            "::1.2.3",
            "::01.2.3.4",
            "g::1",
            "\uff1a\uff1a1",
            "localhost",
        ],
    ],
)
def test_every_other_spelling_is_no_address(text: str) -> None:
    assert parse_address(text) is None


def test_the_corpus_names_an_address_of_every_special_range_of_ipv4() -> None:
    hosts = {url.partition("//")[2].partition("/")[0].partition(":")[0] for url in HOSTILE_URLS["addresses of IPv4"]}
    addresses = [address for host in hosts if (address := parse_address(host))]

    sinks = {"192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"}
    for network in (ip_network(text) for text in NOT_PUBLIC if ":" not in text and text not in sinks):
        assert any(address in network for address in addresses), network
