"""Bad text lists and csv tables."""

from __future__ import annotations

from tests.stages.bad_inputs.rows import Row, block, both, content, encoded, renamed, text

OPEN = "a quotation mark that is not closed on its line"
HUGE = "1526648123456"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = "<!DOCTYPE html><html>Quota exceeded</html>\n"
NFD = "Ka\u0308fer"


def lines(old: str, new: str, times: int = 1):
    return text(lambda whole: whole.replace(old, new, times))


ROWS = [
    # A: what the file really is
    Row("A", "a web page", "list", content(PAGE), "train.txt: a web page was saved in its place"),
    Row("A", "a pointer", "list", content(LFS), "train.txt: a Git LFS pointer, not the file itself: run git lfs pull"),
    Row("A", "a web page", "csv", content(PAGE), "train.csv: a web page was saved in its place"),
    Row("A", "a pointer", "csv", content(LFS), "train.csv: a Git LFS pointer, not the file itself: run git lfs pull"),
    Row("A", "gzip", "csv", content(b"\x1f\x8b\x08\0\xff\xff"), "not UTF-8 text (byte 1); a gzip archive: unpack it"),
    Row("A", "a spreadsheet", "csv", content(b"PK\x03\x04\xff"), "not UTF-8 text (byte 4); a zip archive: unpack it"),
    Row("A", "zeros", "list", content(b"\0" * 99), "train.txt: it begins with nothing but zeros"),
    Row("A", "an error of S3", "csv", content("<?xml version='1.0'?><Error/>\n"), "an XML document (an error of the"),
    Row("A", "nothing", "csv", content(""), "no column 'path' in columns none; expected path,label or path,label,cl"),
    Row("A", "nothing", "list", content("\n\n"), "train.txt: no image in it; fetch the official list again"),
    # B: of two the last wins
    Row("B", "a column twice", "csv", lines("class", "label"), "train.csv: column 'label' stands twice; keep one"),
    Row("B", "two names", "csv", lines("0,ant", "0,fly"), "train.csv: line 3: label 0 is class 'ant' here, 'fly' abo"),
    Row("B", "an image twice", "list", text(lambda t: t + t), "train.txt: listed more than once: train/ant/0.png, tr"),
    Row("B", "one file two ways", "list", text(lambda t: t + "train//ant/./0.png 0\n"), "more than once: train/ant/0."),
    Row("B", "train is test", "list", text(lambda t: t + "train/ant/0.png 0\n", "test"), "in the training list too: t"),
    Row("B", "label 1.7", "list", lines(" 0", " 1.7"), "line 1: 'train/ant/0.png 1.7' is no path with a label"),
    Row("B", "label 1_0", "csv", lines(",0,", ",1_0,"), "line 2: 'train/ant/0.png 1_0' is no path with a label"),
    Row("B", "label +1", "csv", lines(",0,", ",+1,"), "line 2: 'train/ant/0.png +1' is no path with a label"),
    Row(
        "B", "fullwidth digit", "list", lines(" 0", " \uff11"), "line 1: 'train/ant/0.png \uff11' is no path with a la"
    ),
    # C: left out in silence
    Row("C", "open quote", "csv", lines("0,ant", '0,"ant'), f"train.csv: line 2: {OPEN}"),
    Row("C", "two open quotes", "csv", lines(",bee", ',"bee', 2), f"train.csv: line 5: {OPEN}"),
    Row("C", "long open quote", "csv", text(lambda t: t.replace("1,bee", '1,"bee') + "x" * 140000), f"line 5: {OPEN}"),
    Row("C", "newline in a name", "csv", lines("0,ant", '0,"ant\nhill"'), f"line 2: {OPEN}"),
    Row("C", "quote within", "csv", lines("0,ant", '0,"a"nt'), "train.csv: line 2: ',' expected after '\"'"),
    Row("C", "a value too many", "csv", lines("0,ant", "0,ant,big"), "line 2: 4 values for 3 columns (path, label, cl"),
    Row("C", "a value too few", "csv", lines(",ant", ""), "train.csv: line 2: 2 values for 3 columns"),
    Row("C", "semicolons", "csv", text(lambda t: t.replace(",", ";")), "; separated by semicolons, not commas"),
    Row("C", "tabs", "csv", text(lambda t: t.replace(",", "\t")), "; separated by tabs, not commas"),
    Row("C", "a column's case", "csv", lines("path", "Path"), "; 'Path' is not 'path'"),
    Row("C", "no header", "csv", lines("path,label,class\n", ""), "expected path,label or path,label,class"),
    Row("C", "no label", "list", lines("0.png 0", "0.png"), "line 1: 'train/ant/0.png' is no path with a label aft"),
    # F: known early
    Row("F", "no tail in the test", "list", text(lambda t: t.replace(" 2", " 1"), "test"), "no test image of a tail "),
    Row("F", "no tail in the test", "csv", text(lambda t: t[: t.index("test/cat")], "test"), "tail class (class 2 by"),
    Row("F", "no tail at all", "list", block(cuts=[1, 3]), "[1, 3] leaves no tail among 3 classes"),
    Row("F", "a class without images", "list", text(lambda t: t.replace(" 1", " 3")), "train.txt: no image of label 1"),
    Row(
        "F",
        "labels from 1",
        "list",
        text(lambda t: t.replace(" 2\n", " 3\n").replace(" 1\n", " 2\n").replace(" 0\n", " 1\n")),
        "no image of label 0; labels start at 1 here, 0 is needed",
    ),
    Row("F", "other counts", "list", block(train_images=8), "train.txt: 7 images, 8 expected"),
    Row(
        "F", "test out of range", "csv", text(lambda t: t.replace(",2,", ",3,"), "test"), "label 3 out of range, 3 cla"
    ),
    # I: names
    Row("I", "Latin-1", "list", encoded("latin-1", lambda t: t + "train/caf\xe9.png 0\n"), "if it is Latin-1: iconv"),
    Row("I", "Latin-1", "csv", encoded("latin-1", lambda t: t.replace("ant\n", "fourmi \xe9\n")), "not UTF-8 text (by"),
    Row("I", "NUL in a path", "list", lines("0.png", "0\0.png"), "line 1: path 'train/ant/0\\x00.png' has the charact"),
    Row("I", "a bell in a name", "csv", lines("0,ant", "0,an\x07t"), "line 2: class name 'an\\x07t' has the character"),
    Row("I", "a line separator", "csv", lines("0,ant", "0,an\u2028t"), "class name 'an\\u2028t' has the character"),
    Row("I", "a blank name", "csv", text(lambda t: t.replace("ant\n", " \n")), "line 2: class name ' ' is empty"),
    # J: outside numbers as sizes
    Row(
        "J", "third column", "list", text(lambda t: t.replace("\n", f" {HUGE}\n")), f"label {HUGE} of 7 images: more c"
    ),
    Row("J", "one huge label", "csv", lines(",0,", f",{HUGE},"), f"label {HUGE} of 1 image: more classes than images"),
    Row(
        "J", "beyond 64 bits", "list", lines(" 0", " " + 30 * "9"), "line 1: its label is larger than any number of cl"
    ),
    Row("J", "beyond Python", "csv", lines(",0,", f",{5000 * '9'},"), "line 2: its label is larger than any number of"),
    Row(
        "J", "huge in the test", "list", text(lambda t: t.replace(" 0", f" {HUGE}", 1), "test"), f"label {HUGE} out of"
    ),
    Row("J", "huge classes", "list", block(classes=10**15), "7 images, fewer than its 1000000000000000 classes"),
    Row("J", "negative", "csv", lines(",0,", ",-3,"), "line 2: label -3 is negative"),
    # M: causes that the doctor names
    Row("M", "UTF-16", "csv", encoded("utf-16"), "UTF-16 text (it starts with that byte order mark): save it as UTF-8"),
    Row("M", "UTF-16", "list", encoded("utf-16"), "train.txt: not UTF-8 text (byte 0); UTF-16 text (it starts"),
    Row(
        "M",
        "backslashes",
        "list",
        text(lambda t: t.replace("/", "\\")),
        "the list has \\ where / is needed: replace it",
    ),
    Row(
        "M", "a drive", "list", text(lambda t: t.replace("train/", "D:\\x\\train\\")), "paths of the drive D:, the list"
    ),
    Row(
        "M",
        "absolute",
        "list",
        text(lambda t: t.replace("train/", "/data/")),
        "'/data/ant/0.png' does not lead into the",
    ),
    Row("M", "parent folders", "csv", text(lambda t: t.replace("train/", "../")), "'../ant/0.png' does not lead into"),
    Row(
        "M",
        "a blank in front",
        "csv",
        text(lambda t: t.replace("train/", " train/")),
        "a blank before or after the path",
    ),
    Row(
        "M",
        "NFD on disk",
        "list",
        both(renamed("train/ant", f"train/{NFD}"), text(lambda t: t.replace("ant", "K\xe4fer"))),
        "(NFD on disk, NFC in the list): convmv -f utf-8 -t utf-8 --nfc",
    ),
    Row(
        "M",
        "NFD in the list",
        "csv",
        both(renamed("train/ant", "train/K\xe4fer"), text(lambda t: t.replace("/ant", f"/{NFD}"))),
        "(NFC on disk, NFD in the list): convmv -f utf-8 -t utf-8 --nfd",
    ),
    Row(
        "M",
        "Latin-1 on disk",
        "list",
        both(renamed("train/ant", "train/K\udce4fer"), text(lambda t: t.replace("ant", "K\xe4fer"))),
        "the names on disk are in Latin-1, not in UTF-8: convmv -f latin1",
    ),
    Row(
        "M",
        "another case",
        "list",
        text(lambda t: t.replace("ant", "Ant")),
        "has ant where the list has Ant: rename as in",
    ),
    Row(
        "M",
        "another suffix",
        "csv",
        text(lambda t: t.replace(".png", ".jpg")),
        "has 0.png where the list has 0.jpg: ren",
    ),
    Row("M", "root too high", "list", block(images="data"), "files.images is one folder too high, they are in data/"),
    Row(
        "M", "no images", "list", block(images="data/none"), "data/none: no such folder", "no folder data/none: link i"
    ),
    Row("M", "no list", "csv", block(train="train.cvs"), "train.cvs: no such list; data/raw holds: test.csv, train.c"),
]
