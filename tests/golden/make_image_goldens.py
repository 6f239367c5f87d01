#!/usr/bin/env python3
"""Pictures for tests/vision, by Pillow, torchvision and transformers.

  python3 make_image_goldens.py [folder, default images]

resized.txt: one line a case: filter, rule, resize height and width, crop height and width, rounding, height and
width of the picture, begin of its bytes in resized.bin. Bytes are RGB after resize and crop. The picture is `scene`
of tests/vision/scene.h: no bytes of it are stored.

files/: a file of each kind, and beside it <file>.rgb, what Pillow decodes it to; turned-*.jpg with each orientation
have <file>.rgb upright. Only the maker's own scenes are in them.
"""
import io
import pathlib
import struct
import sys
import zlib

import numpy
import torchvision.transforms.functional as vision
from PIL import Image, ImageOps
from transformers.image_transforms import center_crop as transformers_crop

FILTERS = {"nearest": Image.Resampling.NEAREST, "box": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR,
           "hamming": Image.Resampling.HAMMING, "bicubic": Image.Resampling.BICUBIC,
           "lanczos": Image.Resampling.LANCZOS}
# rule, resize height, resize width, crop height, crop width, rounding, height, width
SHAPES = [
    ("exact", 16, 16, 16, 16, "even", 61, 47),      # reduction by odd factors
    ("exact", 29, 31, 29, 31, "even", 7, 5),        # enlarging
    ("exact", 12, 40, 12, 40, "down", 31, 17),      # one side down, the other up
    ("exact", 20, 23, 20, 23, "even", 20, 37),      # columns only
    ("exact", 11, 19, 11, 19, "even", 33, 19),      # rows only
    ("shorter", 18, 18, 13, 13, "even", 64, 41),    # odd excess, both roundings
    ("shorter", 18, 18, 13, 13, "down", 64, 41),
    ("shorter", 15, 15, 12, 14, "even", 33, 90),
    ("shorter", 15, 15, 12, 14, "down", 33, 90),
    ("shorter", 9, 9, 9, 9, "even", 9, 30),         # the shorter side is there already
    ("shorter", 10, 10, 16, 13, "even", 23, 45),    # smaller than the crop: padding
    ("shorter", 10, 10, 16, 12, "down", 23, 45),
    ("exact", 40, 5, 24, 5, "even", 777, 7),        # rows lose over twice as many as columns: rows first
    ("shorter", 14, 14, 14, 12, "even", 75, 32),    # and here
    ("exact", 20, 12, 20, 12, "down", 60, 31),      # 40 rows and 19 columns lost
    ("exact", 20, 12, 20, 12, "down", 60, 32),      # 40 and 20: columns first
    ("exact", 4, 16, 4, 16, "down", 3, 1200),       # and as wide as high: not
    ("exact", 224, 224, 3, 4, "even", 300, 224),    # a few pixels out of many
    ("exact", 333, 222, 3, 5, "down", 97, 101),
]
NONE_SHAPES = [("none", 0, 0, 8, 9, "even", 21, 22), ("none", 0, 0, 8, 9, "down", 21, 22),
               ("none", 0, 0, 16, 9, "even", 11, 20), ("none", 0, 0, 15, 14, "down", 11, 20),
               ("none", 0, 0, 7, 7, "even", 10, 10), ("none", 0, 0, 7, 7, "even", 12, 12)]


def scene(height, width):
    """Noise, with blocks of black and white so that filters overshoot. The same in tests/vision/scene.h."""
    state = (height * 65537 + width) & 0xffffffff
    image = numpy.empty((height, width, 3), numpy.uint8)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                state = (state * 1664525 + 1013904223) & 0xffffffff
                block = (x // 5 + y // 3 + channel) % 4
                image[y, x, channel] = 0 if block == 0 else 255 if block == 1 else state >> 24
    return image


def smooth(height, width):
    """What a JPEG holds well."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float64)
    waves = [x / width, y / height, (x + y) / (width + height)]
    return numpy.stack([20 + 215 * wave for wave in waves], -1).round().astype(numpy.uint8)


def resize(image, rule, height, width, resample):
    if rule == "none":
        return image
    size = height if rule == "shorter" else (height, width)
    by_torchvision = vision.resize(image, size, vision._interpolation_modes_from_int(int(resample)))
    if rule == "exact":  # Pillow itself, without a layer between
        assert by_torchvision.tobytes() == image.resize((width, height), resample).tobytes()
    return by_torchvision


def crop(image, height, width, rounding):
    if rounding == "even":
        return vision.center_crop(image, [height, width]).tobytes()
    return transformers_crop(numpy.asarray(image), (height, width)).tobytes()


def make_resized(folder):
    lines, content = [], bytearray()
    rows = [(name, shape) for name in FILTERS for shape in SHAPES] + [("bicubic", shape) for shape in NONE_SHAPES]
    for name, (rule, to_height, to_width, height, width, rounding, from_height, from_width) in rows:
        image = Image.fromarray(scene(from_height, from_width))
        resized = resize(image, rule, to_height, to_width, FILTERS[name])
        lines.append(f"{name} {rule} {to_height} {to_width} {height} {width} {rounding} {from_height} {from_width} "
                     f"{len(content)}\n")
        content += crop(resized, height, width, rounding)
    (folder / "resized.txt").write_text("".join(lines))
    (folder / "resized.bin").write_bytes(content)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows, extra=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sound_files():
    noise, calm = Image.fromarray(scene(13, 18)), Image.fromarray(smooth(26, 35))
    alpha = noise.copy()
    alpha.putalpha(Image.fromarray(scene(13, 18)[..., 1]))
    palette = noise.quantize(16)
    wide = numpy.frombuffer(scene(5, 14).tobytes(), ">u2").reshape(5, 7, 3)
    wide_rows = b"".join(b"\0" + wide[y].tobytes() for y in range(5))
    return {
        "rgb.png": saved(noise, "PNG"),
        "rgba.png": saved(alpha, "PNG"),
        "gray.png": saved(noise.convert("L"), "PNG"),
        "gray-alpha.png": saved(alpha.convert("LA"), "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette-clear.png": saved(palette, "PNG", transparency=3),
        "one-bit.png": saved(noise.convert("1"), "PNG"),
        "rgb16.png": png(7, 5, 16, 2, wide_rows),
        "photo.jpg": saved(calm, "JPEG", quality=90),
        "photo-444.jpg": saved(calm, "JPEG", quality=90, subsampling=0),
        "photo-422.jpg": saved(calm, "JPEG", quality=90, subsampling=1),
        "photo-progressive.jpg": saved(calm, "JPEG", quality=90, progressive=True),
        "photo-restarts.jpg": saved(calm, "JPEG", quality=90, restart_marker_blocks=2),
        "gray.jpg": saved(calm.convert("L"), "JPEG", quality=90),
        "cmyk.jpg": saved(calm.convert("CMYK"), "JPEG", quality=95),
        "noise.gif": saved(noise.quantize(64), "GIF"),
        "interlaced.gif": saved(noise.quantize(32), "GIF", interlace=1),
        "frames.gif": saved(noise.quantize(8), "GIF", save_all=True, append_images=[noise.rotate(180).quantize(8)]),
        "rgb.bmp": saved(noise, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "one-bit.bmp": saved(noise.convert("1"), "BMP"),
        "rgb.ppm": saved(noise, "PPM"),
        "gray.pgm": saved(noise.convert("L"), "PPM"),
    }


def make_files(folder):
    folder.mkdir(exist_ok=True)
    for name, content in sound_files().items():
        (folder / name).write_bytes(content)
        image = Image.open(io.BytesIO(content))
        (folder / (name + ".rgb")).write_bytes(image.convert("RGB").tobytes())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010f] = "maker"
        if orientation % 2:
            exif.endian = "<"
        content = saved(Image.fromarray(smooth(14, 19)), "JPEG", quality=80, exif=exif)
        name = f"turned-{orientation}.jpg"
        (folder / name).write_bytes(content)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        (folder / (name + ".rgb")).write_bytes(upright.convert("RGB").tobytes())


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "images")
    folder.mkdir(exist_ok=True)
    make_resized(folder)
    make_files(folder / "files")


if __name__ == "__main__":
    main()
