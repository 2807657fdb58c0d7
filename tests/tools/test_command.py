"""The command with subcommands."""

import pytest

from immunization.__main__ import TOOLS, main


def test_a_subcommand_gets_the_rest_of_the_words(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(
        "study: mini\ndatasets: {digits: {}}\nmethods: {identity: {}}\n"
        "attacks: {gradient_descent: {}}\n"
    )
    main(["check", str(path)])
    assert "mini: 1 methods, 1 attackers" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [([], 2), (["chekc"], 2), (["--help"], 0)])
def test_without_a_known_subcommand_all_of_them_are_listed(words, code, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    told = capsys.readouterr()
    text = told.err if code else told.out
    assert all(name in text for name in TOOLS)
    assert ("no command 'chekc'" in text) == ("chekc" in words)


@pytest.mark.parametrize("name", TOOLS)
def test_every_subcommand_has_a_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: immunization {name}" in told
    assert f"example:\n  immunization {name}" in told


def test_completion_knows_every_subcommand(capsys):
    main(["--completion", "bash"])
    script = capsys.readouterr().out
    assert all(name in script for name in TOOLS)
    with pytest.raises(SystemExit):
        main(["--completion", "fishy"])


def test_the_version_is_the_packages(capsys):
    import immunization

    main(["--version"])
    assert capsys.readouterr().out.strip() == immunization.__version__
