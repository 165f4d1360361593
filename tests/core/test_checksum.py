import zlib

import crcmod
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.checksum import Crcs

crc64_xz = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=0xFFFFFFFFFFFFFFFF, rev=True)


def crcs_of(*parts: bytes) -> Crcs:
    crcs = Crcs()
    for part in parts:
        crcs.update(memoryview(part))
    return crcs


@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_crc32_is_zlibs_however_the_bytes_are_cut(parts: list[bytes]) -> None:
    assert crcs_of(*parts).crc32 == zlib.crc32(b"".join(parts))


@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_crc64_is_crcmods_crc64_xz_however_the_bytes_are_cut(parts: list[bytes]) -> None:
    assert crcs_of(*parts).crc64 == crc64_xz(b"".join(parts))


def test_crc64_has_the_check_value_of_the_catalogue() -> None:
    assert crcs_of(b"123456789").crc64 == 0x995DC9BBDF1939FA


def test_crc32_has_the_check_value_of_the_catalogue() -> None:
    assert crcs_of(b"123456789").crc32 == 0xCBF43926
