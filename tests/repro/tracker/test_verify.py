"""A record that no longer holds is found and named."""

import json

from repro.tracker import compare, records, verify


def all_suites(root):
    return [s for name in compare.papers(root) for s in compare.suites(name, compare.records_of(name, root))]


def test_sound_records_hold(sample):
    path = sample.save([900.0, 950.0, 930.0])
    assert verify.check(path, sample.results).problems == ()


def test_every_single_byte_matters(sample):
    """Each byte of the file changed in turn: never does the record still hold."""
    path = sample.save([900.0], used=50_000, config={}, versions={}, command="x")
    original = path.read_bytes()
    for at in range(0, len(original), 3):
        changed = bytearray(original)
        changed[at] = changed[at] + 1 if changed[at] != ord("9") else ord("8")
        path.write_bytes(bytes(changed))
        assert verify.check(path, sample.results).problems, (at, original[at - 20 : at + 20])


def test_a_reformatted_file_is_named_though_its_content_is_the_same(sample):
    path = sample.save([900.0, 950.0])
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    assert "not byte for byte" in verify.check(path, sample.results).problems[0]


def test_a_forged_id_does_not_hide_a_forged_score(sample):
    """Someone who changes a score and fixes id and name is caught by the episodes."""
    record = records.load(sample.save([900.0, 950.0]))
    record["scores"][0] = 990.0
    record["id"] = records.digest(record)[:12]
    path = sample.results / "runs/dreamerv3/dmc_proprio/walker_walk" / f"{record['id']}.json"
    path.write_bytes(records.to_bytes(record))
    assert any("its episodes give 900.0" in p for p in verify.check(path, sample.results).problems)


def test_misplaced_and_renamed_files_are_named(sample):
    path = sample.save([900.0, 950.0])
    renamed = path.rename(path.with_name("0123456789ab.json"))
    assert "the file is called" in verify.check(renamed, sample.results).problems[0]


def test_the_reports_verdicts_are_recomputed(sample):
    one = sample.save([955.0, 960.0, 950.0])
    sample.save([600.0, 610.0, 620.0], task="cheetah_run")
    summary = sample.results / verify.SUMMARY

    def check(rows):
        summary.write_text(json.dumps({"verdicts": rows}))
        return verify.against_report(sample.results, all_suites(sample.results))

    assert verify.against_report(sample.results, all_suites(sample.results)) == ([], False)
    rows = verify.verdicts(all_suites(sample.results))
    assert [r["verdict"] for r in rows] == ["reproduced"] * 2 + ["partial: reproduced"] * 2  # tasks, aggregates
    assert check(rows) == ([], False)
    forged = [dict(r) for r in rows]
    forged[0]["verdict"] = "above"
    assert "reported above (613" in check(forged)[0][0] or "reported above (610" in check(forged)[0][0]
    forged = [dict(r) for r in rows]
    forged[-1]["reproduced"] = {"value": 1.0, "interval": None, "seeds": 3}
    assert "median_return" in check(forged)[0][0]
    assert check(rows[1:]) == ([], True)  # a record that the report does not know yet
    sample.save([950.0], seeds=[9])
    assert check(rows) == ([], True)
    one.unlink()
    assert "without its records" in check(rows)[0][0]
    summary.write_text("{")
    assert "not a summary" in verify.against_report(sample.results, all_suites(sample.results))[0][0]


def test_a_number_holds_within_its_interval(sample):
    record = sample.record([900.0, 950.0, 930.0])
    assert verify.holds(record, [[905.0, 895.0], [940.0, 960.0], [930.0, 925.0]])[0]
    assert not verify.holds(record, [[500.0, 510.0], [505.0, 500.0], [500.0, 501.0]])[0]
    single = sample.record([900.0])
    assert verify.holds(single, [[880.0, 910.0, 905.0]])[0]
    assert not verify.holds(single, [[600.0, 610.0, 605.0]])[0]
