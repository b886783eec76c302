"""Bands of rows from every kind of file, against astropy."""

import gzip
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from calibrant.errors import FileError, ShapeError, WriteError
from calibrant.files.fits import assemble, open_source, write_raw
from calibrant.files.pool import FilePool, file_pool
from calibrant.files.scratch import Packed, scratch_folder
from calibrant.files.source import FitsSource, MosaicSource
from calibrant.stack.source import Source, decode

INTEGERS = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"]
FLOATS = ["f4", "f8"]
SHAPE = (37, 53)


def numbers(dtype: str) -> np.ndarray:
    """The whole range of a type, its ends included."""
    rng = np.random.default_rng(11)
    if dtype in FLOATS:
        values = rng.normal(0, 1e4, SHAPE).astype(dtype)
        values[0, :3] = np.nan, np.inf, -0.0
        return values
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, SHAPE, dtype=dtype, endpoint=True)
    values[-1, -2:] = limits.min, limits.max
    return values


def stored(path: Path, data: np.ndarray, form: str) -> Path:
    """`data` written by astropy in one of the forms."""
    if form == "fz":
        kind = "RICE_1" if data.dtype.str[1:] in ("u1", "i2", "u2", "i4", "u4") else "GZIP_2"
        fits.CompImageHDU(data, compression_type=kind, quantize_level=0).writeto(path)
        return path
    fits.PrimaryHDU(data).writeto(path)
    if form == "gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def read_all(source: Source, step: int) -> np.ndarray:
    """Every row in bands of `step`, as stored."""
    raw = np.zeros(source.shape, source.encoding.dtype)
    for begin in range(0, source.shape[0], step):
        source.read_into(slice(begin, begin + step), raw[begin : begin + step])
    return raw


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_every_type_in_every_form(tmp_path, dtype, form):
    data = numbers(dtype)
    if form == "fz" and dtype in ("i1", "u8"):  # types that astropy does not compress, but we do
        path = tmp_path / "a.fits.fz"
        write_raw(path, None, (), [("SCI", data, ())])
    else:
        path = stored(tmp_path / "a.fits", data, form)
    source = open_source(path)
    assert isinstance(source, Source)
    loaded = source.load()
    assert loaded.dtype == data.dtype
    np.testing.assert_array_equal(loaded, data)
    for step in (5, SHAPE[0]):
        values = decode(read_all(source, step), source.encoding)
        np.testing.assert_array_equal(values, decode(read_all(source, 1), source.encoding))
        if dtype not in ("i1", "u4", "u8"):
            np.testing.assert_array_equal(values, data)


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
def test_scaling_and_blanks(tmp_path, form):
    raw = np.arange(-50, 50, dtype=np.int16).reshape(10, 10)
    path = tmp_path / "a.fits"
    write_raw(path, raw, {"BSCALE": 0.5, "BZERO": 10.0, "BLANK": -50})
    if form == "gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    if form == "fz":
        path = tmp_path / "b.fz"
        fits.CompImageHDU(raw, compression_type="RICE_1").writeto(path)
        fits.setval(path, "BLANK", value=-50, ext=1)
        expected = np.where(raw == -50, np.nan, raw)
    else:
        expected = np.where(raw == -50, np.nan, raw * 0.5 + 10.0)
        with fits.open(path) as theirs:
            np.testing.assert_array_equal(theirs[0].data, expected.astype(np.float32))
    np.testing.assert_array_equal(open_source(path).load(), expected.astype(np.float32))


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
@pytest.mark.parametrize("section", ["[3:20,5:30]", "[1:53,10:37]", "[53:1,1:37]", "[7:7,30:2]"])
def test_sections(tmp_path, form, section):
    from calibrant.sections import parse_section

    data = numbers("i2")
    source = open_source(stored(tmp_path / "a.fits", data, form), section=section)
    expected = parse_section(section).of(data)
    assert source.shape == expected.shape
    np.testing.assert_array_equal(source.load(), expected)
    np.testing.assert_array_equal(decode(read_all(source, 4), source.encoding), expected)


def test_a_section_of_a_section_is_counted_from_the_first(tmp_path):
    from calibrant.sections import parse_section

    data = numbers("u2")
    whole = FitsSource.section(
        open_source(stored(tmp_path / "a.fits", data, "plain")), parse_section("[3:40,4:30]")
    )
    np.testing.assert_array_equal(
        whole.section(parse_section("[2:9,5:6]")).load(), data[3:30, 2:40][4:6, 1:9]
    )
    with pytest.raises(ShapeError, match="outside"):
        whole.section(parse_section("[1:39,1:2]"))


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
def test_cubes_give_their_planes(tmp_path, form):
    cube = np.arange(2 * 3 * 5 * 7, dtype=np.uint16).reshape(2, 3, 5, 7)
    if form == "fz":
        cube = cube[0]
    source = open_source(stored(tmp_path / "a.fits", cube, form))
    np.testing.assert_array_equal(source.load(), cube)
    np.testing.assert_array_equal(source.plane(*(1,) * (cube.ndim - 2)).load(), cube[(1,) * (cube.ndim - 2)])
    with pytest.raises(ShapeError, match="two axes"):
        source.read_into(slice(0, 1), np.empty((1, 7), ">i2"))


def test_buffers_of_other_kinds_are_filled_too(tmp_path):
    data = numbers("i2")
    source = open_source(stored(tmp_path / "a.fits", data, "plain"))
    wide = np.zeros((6, 2 * SHAPE[1]), "=i4")
    source.read_into(slice(2, 8), wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], data[2:8])
    with pytest.raises(ShapeError, match="buffer does not fit"):
        source.read_into(slice(0, 3), np.empty((2, SHAPE[1]), ">i2"))


def amplifier_file(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Two amplifiers in units of their own, the right one read out from right to left and trimmed."""
    truth = np.random.default_rng(2).integers(0, 65535, (20, 24)).astype(np.uint16)
    left = np.zeros((20, 15), np.uint16)
    left[:, :12] = truth[:, :12]
    right = np.zeros((20, 15), np.uint16)
    right[:, 3:] = truth[:, 12:][:, ::-1]
    write_raw(path, None, (), [("AMP1", left, ()), ("AMP2", right, ())])
    return truth, [left, right]


@pytest.mark.parametrize("step", [1, 7, 20])
def test_amplifiers_are_assembled(tmp_path, step):
    truth, _ = amplifier_file(tmp_path / "a.fits")
    source = assemble(
        tmp_path / "a.fits", (20, 24), [("AMP1", "[1:12,1:20]", 0, 0), (2, "[15:4,1:20]", 0, 12)]
    )
    np.testing.assert_array_equal(decode(read_all(source, step), source.encoding), truth)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).load(), truth)


def test_parts_stored_differently_become_floats_and_gaps_nan(tmp_path):
    a, b = np.full((4, 3), 7, np.uint16), np.full((4, 3), 2.5, np.float32)
    write_raw(tmp_path / "a.fits", a, (), [("B", b, ())])
    source = assemble(tmp_path / "a.fits", (5, 6), [(0, "[*,4:1]", 0, 0), (1, "[*,*]", 1, 3)])
    expected = np.full((5, 6), np.nan, np.float32)
    expected[:4, :3], expected[1:, 3:] = 7, 2.5
    np.testing.assert_array_equal(source.load(), expected)
    with pytest.raises(ShapeError, match="outside the mosaic"):
        assemble(tmp_path / "a.fits", (4, 5), [(0, "[*,*]", 0, 3)])


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
def test_sources_travel(tmp_path, form):
    data = numbers("u2")
    source = open_source(stored(tmp_path / "a.fits", data, form))
    read_all(source, 5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).load(), data)


@pytest.mark.parametrize("form", ["gz", "fz"])
def test_packed_files_are_unpacked_once(tmp_path, form):
    source = open_source(stored(tmp_path / "a.fits", numbers("i2"), form))
    before = set(Path(scratch_folder()).iterdir())
    source.load()  # the whole image needs no scratch
    assert set(Path(scratch_folder()).iterdir()) == before
    read_all(source, 5)
    [made] = set(Path(scratch_folder()).iterdir()) - before
    stamp = made.stat()
    read_all(source, 3)
    assert made.stat().st_mtime_ns == stamp.st_mtime_ns
    assert len(set(Path(scratch_folder()).iterdir()) - before) == 1


def test_threads_unpack_a_file_once(tmp_path, monkeypatch):
    data = np.random.default_rng(0).integers(0, 60000, (400, 500)).astype(np.uint16)
    source = open_source(stored(tmp_path / "a.fits", data, "gz"))
    real, made = Packed._unpack, []
    monkeypatch.setattr(Packed, "_unpack", lambda self, out: made.append(1) or real(self, out))

    def band(row: int) -> np.ndarray:
        raw = np.empty((50, 500), ">i2")
        source.read_into(slice(row, row + 50), raw)
        return decode(raw, source.encoding)

    with ThreadPoolExecutor(8) as threads:
        bands = list(threads.map(band, range(0, 400, 50)))
    np.testing.assert_array_equal(np.concatenate(bands), data)
    assert len(made) == 1


def test_scratch_without_room_is_told(tmp_path, monkeypatch):
    source = open_source(stored(tmp_path / "a.fits", numbers("i2"), "gz"))

    def full(self, out):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Packed, "_unpack", full)
    with pytest.raises(WriteError, match=r"unpacking failed \(No space left on device\); make room there"):
        source.read_into(slice(0, 1), np.empty((1, SHAPE[1]), ">i2"))


def test_scratch_goes_with_the_process_and_that_of_the_dead_with_the_next(tmp_path):
    stored(tmp_path / "a.fits", numbers("i2"), "gz")
    code = textwrap.dedent(
        """
        import os, sys, numpy as np
        from calibrant.files.fits import open_source
        source = open_source(sys.argv[1])
        source.read_into(slice(0, 2), np.empty((2, 53), ">i2"))
        if sys.argv[2] == "die":
            os._exit(9)
        """
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "a.fits")]
    assert subprocess.run([*command, "die"], env=environment, check=False).returncode == 9
    assert len(list(tmp_path.glob("calibrant-scratch-*"))) == 1
    subprocess.run([*command, "live"], env=environment, check=True)
    assert not list(tmp_path.glob("calibrant-scratch-*"))


def test_a_file_that_is_cut_short_while_in_use(tmp_path):
    path = stored(tmp_path / "a.fits", numbers("i4"), "plain")
    source = open_source(path)
    band = np.empty((1, SHAPE[1]), ">i4")
    source.read_into(slice(0, 1), band)
    os.truncate(path, 2880 + 10 * SHAPE[1] * 4)
    source.read_into(slice(9, 10), band)
    with pytest.raises(FileError, match=r"ends early: expected .* bytes, got .* bytes"):
        source.read_into(slice(10, 11), band)


@pytest.mark.parametrize("form", ["plain", "gz", "fz"])
def test_a_file_that_was_replaced_is_refused(tmp_path, form):
    path = stored(tmp_path / "a.fits", numbers("i2"), form)
    source = open_source(path)
    stored(tmp_path / "b.fits", numbers("u2")[::-1], form).replace(path)
    with pytest.raises(FileError, match="was changed while it was in use"):
        source.load()
    with pytest.raises(FileError, match="was changed while it was in use"):
        source.read_into(slice(0, 1), np.empty((1, SHAPE[1]), ">i2"))


@pytest.mark.parametrize("form", ["gz", "fz"])
def test_a_packed_file_that_ends_early(tmp_path, form):
    data = np.random.default_rng(1).integers(0, 60000, (300, 300)).astype(np.uint16)
    path = stored(tmp_path / "a.fits", data, form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileError, match="ends early"):
        open_source(path).load()
    with pytest.raises(FileError, match="ends early"):
        open_source(path).read_into(slice(0, 1), np.empty((1, 300), ">i2"))


def test_the_pool_keeps_its_limit_and_its_files(tmp_path):
    sources = []
    for number in range(12):
        write_raw(tmp_path / f"{number}.fits", np.full((2, 2), number, np.int16))
        sources.append(open_source(tmp_path / f"{number}.fits"))
    pool = FilePool(limit=5)
    for source in sources:
        pool.take(source.name, source.stamp)
        pool.give_back(source.name, source.stamp)
    assert len(pool) == 5
    kept = [pool.take(source.name, source.stamp) for source in sources[:8]]
    assert len(pool) == 8  # more than the limit only while they are in use
    for source in sources[:8]:
        pool.give_back(source.name, source.stamp)
    assert len(pool) == 5
    assert len(set(kept)) == 8
    pool.close()
    assert len(pool) == 0


def test_many_threads_read_one_file(tmp_path):
    data = numbers("i4")
    source = open_source(stored(tmp_path / "a.fits", data, "plain"))

    def row(number: int) -> np.ndarray:
        band = np.empty((1, SHAPE[1]), ">i4")
        source.read_into(slice(number, number + 1), band)
        return band

    with ThreadPoolExecutor(8) as threads:
        rows = list(threads.map(row, list(range(SHAPE[0])) * 20))
    np.testing.assert_array_equal(np.concatenate(rows[: SHAPE[0]]), data)
    assert len(file_pool()) >= 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files cannot be counted here")
def test_five_thousand_files_with_a_limit_of_256(tmp_path):
    write_raw(tmp_path / "0.fits", np.arange(8, dtype=np.uint16).reshape(4, 2))
    for number in range(1, 5000):
        os.link(tmp_path / "0.fits", tmp_path / f"{number}.fits")
    code = textwrap.dedent(
        """
        import os, resource, sys
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from calibrant.files.fits import open_source
        sources = [open_source(f"{sys.argv[1]}/{n}.fits") for n in range(5000)]
        def total(source):
            band, found = np.empty((2, 2), ">i2"), 0
            for row in (0, 2):
                source.read_into(slice(row, row + 2), band)
                found += int((band.astype(int) + 32768).sum())
            return found, len(os.listdir("/proc/self/fd"))
        held = [open(os.devnull) for _ in range(100)]
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(total, sources))
        assert {value for value, _ in found} == {28}
        print(max(count for _, count in found))
        """
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    most = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 100 + 64 < most <= 256


def test_astropy_is_not_imported_for_plain_files(tmp_path):
    write_raw(tmp_path / "a.fits", np.ones((2, 2), np.uint16))
    code = textwrap.dedent(
        """
        import sys
        from calibrant.files.fits import open_source, read, write
        frame = read(sys.argv[1]).load()
        write(frame, sys.argv[1] + "out.fits")
        read(sys.argv[1] + "out.fits").load()
        sys.exit("astropy" in sys.modules or "scipy" in sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.fits")], check=True)


def test_a_mosaic_is_a_source(tmp_path):
    write_raw(tmp_path / "a.fits", np.ones((2, 2), np.uint16))
    assert isinstance(open_source(tmp_path / "a.fits", section="[2:1,*]"), MosaicSource)
    assert isinstance(open_source(tmp_path / "a.fits", section="[2:1,*]"), Source)
