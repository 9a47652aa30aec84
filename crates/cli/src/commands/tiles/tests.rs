//! The command from its arguments to its output.

use super::*;
use clap::Parser;
use image_prep::{Limits, Picture, decode, encode_png};
use serde_json::Value;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: TilesArguments,
}

fn tiles(arguments: &[&str]) -> anyhow::Result<String> {
    let line = Line::try_parse_from([&["tiles"], arguments].concat())?;
    let mut out = Vec::new();
    run_to(&line.arguments, &mut out)?;
    Ok(String::from_utf8(out)?)
}

/// A file in a folder that lives as long as the test.
fn file(folder: &tempfile::TempDir, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The message of a failure, without the folder of the test, and its hint.
fn failure(arguments: &[&str]) -> (String, String) {
    let error = tiles(arguments).unwrap_err();
    let input = error.downcast_ref::<InputError>();
    let hint = input.and_then(InputError::hint).unwrap_or_default();
    let message = error.to_string();
    let message = message
        .rsplit_once('/')
        .map_or(message.clone(), |(_, rest)| rest.to_owned());
    (message, hint)
}

#[test]
fn the_worked_examples_of_the_paper_as_json() {
    let sizes = ["394x390", "380x76", "380x393", "500x102"];
    let mut arguments = vec!["--json", "--max-grid", "3x3", "--max-tiles", "6"];
    arguments.extend(sizes);
    let lines: Vec<Value> = tiles(&arguments)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let grids: Vec<String> = lines.iter().map(|line| line["grid"].to_string()).collect();
    assert_eq!(
        grids,
        [
            "[1,1]", "[2,2]", "[1,1]", "[1,1]", "[1,1]", "[5,1]", "[1,1]", "[1,2]", "[1,1]",
            "[2,1]", "[2,1]", "[5,1]"
        ]
    );
    assert_eq!(
        lines[9].to_string(),
        r#"{"input":"500x102","width":500,"height":102,"policy":"relaxed","grid":[2,1],"canvas":[768,384],"tiles":3,"tokens":588}"#
    );
}

#[test]
fn sizes_stand_side_by_side_in_a_table() {
    let expected = "\
size     rule        grid  canvas    tiles  tokens
500x102  relaxed     2:1   768x384       3     588
         llava-next  2:1   768x384       3     588
         internvl    5:1   1920x384      6   1,176
394x390  relaxed     1:1   384x384       1     196
         llava-next  2:2   768x768       5     980
         internvl    1:1   384x384       1     196
";
    assert_eq!(tiles(&["500x102", "394x390"]).unwrap(), expected);
}

/// floor(128 / 16) is 8 patches a side, 4 after merging two by two.
#[test]
fn tokens_follow_tile_and_patch() {
    let tokens = |arguments: &[&str]| {
        let line =
            tiles(&[arguments, &["--json", "--policy", "relaxed", "10x10"]].concat()).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["tokens"].clone()
    };
    assert_eq!(tokens(&[]), 196);
    assert_eq!(tokens(&["--tile", "128", "--patch", "16"]), 16);
    assert_eq!(tokens(&["--tile", "14", "--patch", "14"]), 1);
}

#[test]
fn a_picture_is_measured_after_its_orientation() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "wide.png",
        encode_png(&Picture::filled(500, 102, [9; 3])),
    );
    let line = tiles(&["--json", "--policy", "relaxed", &path]).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["input"], &line["width"], &line["height"]),
        (&path.into(), &500.into(), &102.into())
    );
    assert_eq!(line["tokens"], 588);
}

#[test]
fn a_corpus_gives_the_statistics_of_the_paper() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "image\twidth\theight\tcount\na.png\t394\t390\t7000\nb.png\t500\t102\t200\nc.png\t1080\t2400\t2800\n";
    let path = file(&folder, "corpus.tsv", rows);
    let text = tiles(&["--max-grid", "3x3", &path]).unwrap();
    let expected = "\
corpus.tsv: 10,000 pictures, tiles of 384 pixels, 196 tokens a tile

rule        grids                  tiles      tokens  tokens a picture  relaxed saves
relaxed     up to 3:3, alpha 0.1  27,200   5,331,200             533.1              -
llava-next  up to 3:3             55,200  10,819,200            1081.9          50.7%
internvl    up to 9 tiles         33,400   6,546,400             654.6          18.6%

Grids of relaxed, by number of tiles, against
                  smaller     larger          equal  equal, other shape
llava-next  7,000   70.0%  0    0.0%  3,000   30.0%           0    0.0%
internvl    3,000   30.0%  0    0.0%  7,000   70.0%           0    0.0%
";
    assert_eq!(text.rsplit_once('/').unwrap().1, expected);
}

#[test]
fn corpora_may_be_written_in_several_ways() {
    let folder = tempfile::tempdir().unwrap();
    let ways = [
        "640\t480\n300\t900\n",
        "640\t480\t1\n300\t900\t1\n",
        "# sizes\n\na b.png\t640\t480\nc.png\t300\t900",
        "\u{feff}height\tcount\tfile\twidth\r\n480\t1\ta\t640\r\n900\t1\tb\t300\r\n",
    ];
    for (number, rows) in ways.into_iter().enumerate() {
        let path = file(&folder, &format!("{number}.TSV"), rows);
        let lines = tiles(&["--json", "--policy", "relaxed", &path]).unwrap();
        let sizes: Vec<(Value, Value)> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["width"].clone(), line["height"].clone()))
            .collect();
        assert_eq!(
            sizes,
            [(640.into(), 480.into()), (300.into(), 900.into())],
            "{rows:?}"
        );
    }
}

#[test]
fn wrong_lines_of_a_corpus_are_told_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "file\twidth\theight\tcount\na\t0\t5\t1\nb\t3\n\nc\tx\t3\t4\nd\t3\t4\tq\ne\t1\t1\t-1\nf\t1\t1\t1.5\ng\t1\t1\t1\n";
    let path = file(&folder, "bad.tsv", rows);
    let (message, hint) = failure(&[&path]);
    assert_eq!(
        message,
        "bad.tsv: line 2: expected a width from 1 to 4294967295, found \"0\"; \
         line 3: expected a height in column 3, found 2 columns; \
         line 5: expected a width from 1 to 4294967295, found \"x\"; \
         line 6: expected a count, found \"q\"; line 7: expected a count, found \"-1\"; and 1 more line"
    );
    assert!(
        hint.starts_with("each line is WIDTH<tab>HEIGHT or NAME<tab>WIDTH<tab>HEIGHT"),
        "{hint}"
    );
    let path = file(&folder, "spaces.tsv", "640 480\n");
    assert_eq!(
        failure(&[&path]).0,
        "spaces.tsv: line 1: expected a width in column 2, found 1 columns"
    );
    let path = file(&folder, "empty.tsv", "# nothing\n");
    assert_eq!(
        failure(&[&path]).0,
        "empty.tsv: expected lines with sizes, found none"
    );
}

#[test]
fn nonsense_is_refused_with_advice() {
    for size in ["0x5", "5x0", "99999999999x3"] {
        let (message, hint) = failure(&[size]);
        assert_eq!(
            message,
            format!("{size}: expected sides from 1 to 4294967295 pixels")
        );
        assert_eq!(hint, "a size is WIDTHxHEIGHT, such as 1080x2400");
    }
    for path in ["ax3", "5x", "x5", "5x5x5", "-1x5", "no.tsv"] {
        let (message, hint) = failure(&["--", path]);
        assert_eq!(
            message,
            format!("{path}: expected a picture, a size or a corpus, found no such file")
        );
        assert!(hint.starts_with("a size is WIDTHxHEIGHT"), "{hint}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(
        failure(&[folder.path().to_str().unwrap()])
            .0
            .ends_with("found a folder")
    );
    assert_eq!(
        failure(&["--patch", "400", "5x5"]).0,
        "--patch: expected at most the side of a tile, 384, found 400"
    );
    for arguments in [
        &["--max-grid", "0x3", "5x5"][..],
        &["--max-grid", "4", "5x5"],
        &["--alpha", "nan", "5x5"],
        &["--tile", "0", "5x5"],
        &["--tile", "1000000000", "5x5"],
        &["--max-tiles", "0", "5x5"],
        &[],
    ] {
        assert!(
            tiles(arguments).unwrap_err().is::<clap::Error>(),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_text_file_is_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "notes.png", "Coffee 3.50\n");
    let error = format!("{:#}", tiles(&[&path]).unwrap_err());
    assert!(
        error.ends_with("found text that begins \"Coffee 3.50\""),
        "{error}"
    );
}

/// A tile of 64 has gaps of 18 and 6: the thumbnail begins at 18, the grid at 18 + 64 + 6.
#[test]
fn a_drawing_shows_picture_padding_and_borders() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "wide.png",
        encode_png(&Picture::filled(100, 20, [10, 200, 30])),
    );
    let drawing = folder.path().join("out.png");
    let arguments = [
        "--policy",
        "relaxed",
        "--tile",
        "64",
        "--draw",
        drawing.to_str().unwrap(),
        &path,
    ];
    assert!(tiles(&arguments).unwrap().contains("2:1"));
    let drawn = decode(&std::fs::read(&drawing).unwrap(), &Limits::default()).unwrap();
    assert_eq!(
        (drawn.width, drawn.height),
        (18 + 64 + 6 + 128 + 18, 18 + 64 + 18)
    );
    assert_eq!(drawn.pixel(5, 5), [255; 3], "ground");
    assert_eq!(drawn.pixel(88, 40), [230, 0, 126], "left edge of the grid");
    assert_eq!(drawn.pixel(88 + 64, 40), [230, 0, 126], "between the tiles");
    assert_eq!(drawn.pixel(88 + 20, 18 + 32), [10, 200, 30], "the picture");
    assert_eq!(
        drawn.pixel(18 + 20, 18 + 32),
        [10, 200, 30],
        "the thumbnail"
    );
    let padding = drawn.pixel(88 + 20, 18 + 4);
    assert!(
        [[64, 64, 72], [150, 150, 160]].contains(&padding),
        "{padding:?}"
    );
}

#[test]
fn only_one_picture_can_be_drawn_and_not_one_of_any_size() {
    let draw =
        |arguments: &[&str]| failure(&[&["--draw", "never-written.png"], arguments].concat()).0;
    assert_eq!(
        draw(&["5x5", "6x6"]),
        "--draw: expected one picture, found 2 inputs"
    );
    let large = draw(&["--tile", "16384", "50000x50000"]);
    assert!(
        large.starts_with("--draw: expected at most 100000000 pixels, found "),
        "{large}"
    );
    assert!(!Path::new("never-written.png").exists());
}
