import pathlib
import warnings

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from clipzoo.datasets.files.dicom import pixels as module
from clipzoo.datasets.files.images import decode, read_image
from clipzoo.errors import DataError

BUNDLED = pathlib.Path(pydicom.__file__).parent / "data" / "test_files"
DEEP = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)
LITTLE, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def gray(path, **arguments):
    red, green, blue = np.moveaxis(np.asarray(read_image(path, **arguments)), -1, 0)
    assert (red == green).all() and (red == blue).all()
    return red


def scaled(values, low=None, high=None):
    values = np.asarray(values, np.float64)
    low, high = values.min() if low is None else low, values.max() if high is None else high
    return (values.clip(low, high) - low) * 255 / (high - low)


def reference(path):
    """pydicom's own, before the conversion to 8 bits."""
    data = pydicom.dcmread(path)
    return data, apply_voi_lut(apply_modality_lut(data.pixel_array, data), data)


# ---- files that come with pydicom ----


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("MR_small.dcm", (-32768, 32767)),
        ("MR_small_RLE.dcm", (-32768, 32767)),
        ("MR_small_bigendian.dcm", (-32768, 32767)),
        ("MR_small_implicit.dcm", (-32768, 32767)),
        ("MR_small_jp2klossless.dcm", (-32768, 32767)),
        ("MR_small_jpeg_ls_lossless.dcm", (-32768, 32767)),
        ("693_J2KI.dcm", (0 - 1024 - 8192 + 1024, 8191)),
        ("JPEG2000.dcm", None),
        ("JPEGLSNearLossless_16.dcm", None),
        ("JPEGLSNearLossless_08.dcm", (0, 255)),
        ("image_dfl.dcm", (0, 255)),
        ("liver_1frame.dcm", (0, 1)),
        ("rtdose_1frame.dcm", None),
        ("examples_overlay.dcm", (0, 4095)),
        ("dicomdirtests/98892003/MR1/4919", (-32768, 32767)),
    ],
)
def test_gray_is_what_pydicom_shows(name, limits):
    data, expected = reference(BUNDLED / name)
    if name == "693_J2KI.dcm":  # the range of the window's result, in Hounsfield units
        limits = tuple(np.array([-8192, 8191]) * float(data.RescaleSlope) + float(data.RescaleIntercept))
    np.testing.assert_allclose(gray(BUNDLED / name), scaled(expected, *(limits or ())), atol=0.5001)


def test_monochrome1_is_inverted():
    path = BUNDLED / "dicomdirtests" / "77654033" / "CR1" / "6154"
    data, expected = reference(path)
    ends = np.array([0, 4095]) * float(data.RescaleSlope) + float(data.RescaleIntercept)
    assert data.PhotometricInterpretation == "MONOCHROME1"
    np.testing.assert_allclose(gray(path), 255 - scaled(expected, *ends), atol=0.5001)


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_jpeg_gdcm.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle.dcm"]
    + ["examples_jpeg2k.dcm", "examples_rgb_color.dcm", "SC_rgb_jls_lossy_line.dcm", "ExplVR_BigEnd.dcm"],
)  # fmt: skip
def test_colour_is_rgb(name):
    np.testing.assert_array_equal(np.asarray(read_image(BUNDLED / name)), pixel_array(BUNDLED / name))


@pytest.mark.parametrize(("name", "bits"), [("SC_rgb_rle_16bit.dcm", 16), ("SC_rgb_rle_32bit.dcm", 32)])
def test_deep_colour_keeps_its_upper_8_bits(name, bits):
    np.testing.assert_array_equal(np.asarray(read_image(BUNDLED / name)), pixel_array(BUNDLED / name) >> (bits - 8))


def test_a_palette_is_looked_up():
    data = pydicom.dcmread(BUNDLED / "examples_palette.dcm")
    table = [np.frombuffer(data[f"{c}PaletteColorLookupTableData"].value, "<u2") for c in ("Red", "Green", "Blue")]
    expected = np.stack([column[data.pixel_array] for column in table], axis=-1) >> 8
    np.testing.assert_array_equal(np.asarray(read_image(BUNDLED / "examples_palette.dcm")), expected)


def test_every_bundled_file_is_an_image_or_one_line():
    """With what pydicom itself cannot decode among them; nothing but a DataError, and no warning."""
    read, refused = 0, []
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file() and path.suffix in (".dcm", ""):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    read += read_image(path).mode == "RGB"
                except DataError as error:
                    refused.append(str(error))
    assert read >= 80 and len(refused) > 60 and all("\n" not in line and len(line) < 480 for line in refused)
    assert sum("a DICOM file" in line and "without pixels. Remove it" in line for line in refused) > 40
    assert sum("a DICOMDIR, the table of contents of a disc, not an image" in line for line in refused) == 8
    assert sum("frames, not one" in line for line in refused) == 7


# ---- files written here ----


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, BIG])
@pytest.mark.parametrize("header", [True, False])
def test_deep_gray_without_a_window_is_rescaled_as_a_png_is(tmp_path, syntax, header):
    path = write_dicom(tmp_path / "a", DEEP, syntax=syntax, header=header, BitsStored=12, HighBit=11)
    np.testing.assert_allclose(gray(path), scaled(DEEP), atol=0.5001)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_the_first_window_decides_the_contrast(tmp_path, function, kind):
    window = {"WindowCenter": [1000, 40], "WindowWidth": [1500, 400], "VOILUTFunction": function, "BitsStored": 13, "HighBit": 12}
    path = write_dicom(tmp_path / "a", DEEP.astype(kind), RescaleSlope=0.5, RescaleIntercept=-100, **window)
    _, expected = reference(path)
    ends = np.array([0, 8191] if kind is np.uint16 else [-4096, 4095]) * 0.5 - 100
    np.testing.assert_allclose(gray(path), scaled(expected, *ends), atol=0.5001)
    assert gray(path).min() < 128 and (function == "SIGMOID" or gray(path).max() == 255)


def test_a_lut_goes_before_a_window(tmp_path):
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 12], (4095 - np.arange(4096)).astype("<u2").tobytes()
    lut["LUTData"].VR = "OW"
    path = write_dicom(tmp_path / "a", DEEP, VOILUTSequence=[lut], WindowCenter=40, WindowWidth=400)
    np.testing.assert_allclose(gray(path), 255 - scaled(DEEP, 0, 4095), atol=0.5001)


def test_a_modality_lut(tmp_path):
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData, lut.ModalityLUTType = [4096, 0, 16], (np.arange(4096) ** 2 // 512).astype("<u2").tobytes(), "US"
    lut["LUTData"].VR = "OW"
    path = write_dicom(tmp_path / "a", DEEP, ModalityLUTSequence=[lut])
    np.testing.assert_allclose(gray(path), scaled(DEEP.astype(np.int64) ** 2 // 512), atol=0.5001)


@pytest.mark.parametrize("window", [{"WindowCenter": 0, "WindowWidth": 0}, {"WindowCenter": [5, 40], "WindowWidth": [0.5, 400]}])
def test_an_impossible_window_is_none(tmp_path, window):
    np.testing.assert_allclose(gray(write_dicom(tmp_path / "a", DEEP, **window)), scaled(DEEP), atol=0.5001)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(tmp_path, photometric):
    pixels = np.array([[-2000, 0, 101], [-1990, 200, -2000]], np.int16)
    arguments = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990, "PhotometricInterpretation": photometric}
    shown = gray(write_dicom(tmp_path / "a", pixels, **arguments))
    light = [0, 129, 255] if photometric == "MONOCHROME2" else [255, 126, 0]
    assert shown.tolist() == [[0, *light[:2]], [0, light[2], 0]]
    assert gray(write_dicom(tmp_path / "b", np.full((2, 2), 7, np.uint16), PixelPaddingValue=7)).tolist() == [[0, 0], [0, 0]]


def test_padding_written_as_the_other_type(tmp_path):
    pixels = np.array([[0xF830, 100], [201, 300]], np.uint16)  # -2000 in two's complement
    path = write_dicom(tmp_path / "a", pixels.view(np.int16), PixelPaddingValue=-2000)
    assert gray(path).tolist() == [[0, 0], [129, 255]]


def test_8_bits_are_kept(tmp_path):
    pixels = np.array([[50, 60], [70, 200]], np.uint8)
    assert gray(write_dicom(tmp_path / "a", pixels)).tolist() == pixels.tolist()
    assert gray(write_dicom(tmp_path / "b", pixels, PhotometricInterpretation="MONOCHROME1")).tolist() == (255 - pixels).tolist()
    assert gray(write_dicom(tmp_path / "c", pixels, RescaleSlope=2, RescaleIntercept=-7)).tolist() == pixels.tolist()


def test_one_frame_is_chosen_by_its_number(tmp_path):
    frames = np.stack([np.full((2, 4), value, np.uint8) for value in (10, 20, 30)])
    path = write_dicom(tmp_path / "a", frames)
    assert [int(gray(path, frame=n)[0, 0]) for n in (1, 2, 3)] == [10, 20, 30]
    with pytest.raises(DataError, match=r"a: has 3 frames, not one\. Set data\.dataset\.frame to the number of one, from 1"):
        read_image(path)
    with pytest.raises(DataError, match=r"has 3 frames, so there is no frame 4 \(data\.dataset\.frame\)"):
        read_image(path, frame=4)
    assert gray(write_dicom(tmp_path / "b", frames[0]), frame=1)[0, 0] == 10


# ---- bad files ----


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PixelData": None}, r"a DICOM file, Digital X-Ray Image - For Presentation, without pixels\. Remove it"),
        ({"Rows": None}, "without pixels"),
        ({"PhotometricInterpretation": "HSV"}, r"the pixels are 'HSV', which is not supported\. Supported: MONOCHROME1"),
        ({"Rows": 60000, "Columns": 60000}, r"exceeds the size limit \(60000 x 60000 pixels\)"),
        ({"Rows": 3}, r"the pixels of the DICOM file cannot be decoded \(.*\)\. The file is truncated, damaged"),
        ({"BitsAllocated": 12}, r"cannot be decoded \("),
        ({"NumberOfFrames": 5}, "has 5 frames, not one"),
    ],
)
def test_bad_files_are_one_line(tmp_path, elements, words):
    path = write_dicom(tmp_path / "a.dcm", DEEP, PatientID="SECRET-1", PatientName="张^三", **elements)
    with pytest.raises(DataError, match=words) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value) and "SECRET" not in str(caught.value)


def test_a_missing_decoder_is_named(monkeypatch):
    from pydicom.pixels.decoders import JPEGLSLosslessDecoder

    monkeypatch.setattr(JPEGLSLosslessDecoder, "_available", {})
    with pytest.raises(
        DataError, match=r"lossless\.dcm: no decoder for 'JPEG-LS Lossless Image Compression' is installed\. Run pip install 'clip"
    ):
        read_image(BUNDLED / "MR_small_jpeg_ls_lossless.dcm")


def test_without_pydicom_one_line_says_so(monkeypatch, tmp_path):
    path = write_dicom(tmp_path / "a", DEEP)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"a: DICOM files require the package pydicom\. Run pip install 'clipzoo\[medical\]'"):
        read_image(path)


def test_damage_anywhere_is_one_line(tmp_path):
    """Every cut and many flipped bytes: an image or a DataError."""
    content = write_dicom(tmp_path / "a", DEEP, WindowCenter=2000, WindowWidth=4000).read_bytes()
    rng = np.random.default_rng(0)
    bad = [content[:n] for n in range(132, len(content), 5)]
    for _ in range(150):
        flipped = bytearray(content)
        flipped[rng.integers(132, len(content))] = rng.integers(256)
        bad.append(bytes(flipped))
    outcomes = set()
    for changed in bad:
        try:
            outcomes.add(decode(changed).mode)
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.add("DataError")
    assert outcomes == {"RGB", "DataError"}


def test_only_elements_of_the_pixels_are_read(monkeypatch, tmp_path):
    seen = []
    original = module.read_elements

    def spy(*arguments, **options):
        seen.append(original(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(module, "read_elements", spy)
    read_image(write_dicom(tmp_path / "a", DEEP, PatientID="SECRET-1", PatientName="张^三"))
    assert "Rows" in seen[0] and not {"PatientID", "PatientName"} & set(seen[0].dir())
