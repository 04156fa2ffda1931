"""Print the parity matrix after the tests that measured it."""


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    found = [value for each in passed for name, value in each.user_properties if name == "parity"]
    if not found:
        return
    terminalreporter.section("largest difference from transformers, float32")
    columns = list(found[0][2])
    terminalreporter.write_line(f"{'family':<12} {'configuration':<22} " + " ".join(f"{each:>10}" for each in columns))
    for family, configuration, errors in found:
        numbers = " ".join(f"{errors[each]:>10.1e}" for each in columns)
        terminalreporter.write_line(f"{family:<12} {configuration:<22} {numbers}")
