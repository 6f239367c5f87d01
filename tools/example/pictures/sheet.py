"""Puts one picture of each label on a sheet: sheet.py DIR OUT.png, DIR written by headroom-draw."""
import os
import sys

from PIL import Image, ImageDraw

COLUMNS, SIDE, LINE, GAP = 8, 96, 14, 6


def main(folder, out):
    names = open(f"{folder}/labels.txt").read().splitlines()
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".ppm"):
            found.setdefault(int(name.split("_")[0]), name)
    rows = -(-len(names) // COLUMNS)
    step_x, step_y = SIDE + GAP, SIDE + LINE + GAP
    sheet = Image.new("RGB", (COLUMNS * step_x + GAP, rows * step_y + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for label, name in enumerate(names):
        x, y = GAP + label % COLUMNS * step_x, GAP + label // COLUMNS * step_y
        picture = Image.open(f"{folder}/{found[label]}").resize((SIDE, SIDE), Image.LANCZOS)
        sheet.paste(picture, (x, y))
        pen.text((x, y + SIDE + 1), name, fill="black", font_size=9)
    # A palette keeps the file small, grain and all.
    sheet.quantize(160, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
