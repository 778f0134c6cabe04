"""Find words that the project does not use, and say what to write instead: 1 if there is any.

``python tests/tools/words.py``: every text file of the repository that people read, by the lists below.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_OURS = re.compile(
    r"documented-examples|^requirements/|^LICENSE$|\.(png|svg|ico|css|js)$|tests/tools/words\.py$|test_word_list\.py$"
)
OF_DOCS = re.compile(r"^docs/|\.md$")
OF_PRODUCT = re.compile(r"^(airflow_provider_bitrix24|docs|dags_examples|benchmarks)/|\.md$")

# Word (a regular expression) -> what to write instead.
EVERYWHERE = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again",
    r"on the books|(at|shows?) the books": "on the portal, recorded",
    r"be it": "whether, even, or a colon",
    r"in case that": "if",
    r"what(ever)? (has |had )?(becomes?|became|came|comes) of": "the outcome of",
    r"we promise|the sentence we keep": "we guarantee",
    r"our user": "the connection's user",
    r"(usable|complete) answers?": "response",
    r"(an?|the) (invoice|payment)s? over [\d.]+ [A-Z]{3}": "for (an invoice), of (a payment)",
    r"python -m airflow_provider_bitrix24 (journal|oauth|sandbox)": "bitrix24-airflow ...",
    r"--(adopt|pay-again|give-up)": "--use-payment ID, --send-again, --abandon",
}
IN_THE_PRODUCT = {
    r"whoever": "name the subject",
    r"vouch(es|ed)?": "can rely on, guarantee",
    r"green|red": "succeeded, failed",
    r"takes? the mark back|taken the mark back": "set back to unpaid",
    r"(HTTP|REST|portal's|server's|endpoint's|largest|lost) answers?": "response, reply",
    r"(sent|sends|send) again by itself": "does not send again automatically",
}
IN_THE_DOCS = {
    r"answer(s|ed)? (with )?[`'\"]*(true|false|error)": "returns, responds with",
    r"keeps? books|for the curious|in a hurry|on the spot|the last word": "plain words",
}


def found(words: dict[str, str], name: str, text: str) -> list[str]:
    """Lines with one of the words."""
    lines = []
    for word, instead in words.items():
        spread = word.replace(" ", r"[\s#]+")  # a line may end in the middle of it
        for match in re.finditer(rf"(?<![\w-])(?:{spread})(?!\w)", text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            lines.append(f"{name}:{line}: {match[0]!r}: write {instead}")
    return lines


def main() -> int:
    """Look through all files that Git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    complaints: list[str] = []
    for name in sorted(set(listed.stdout.splitlines())):
        if NOT_OURS.search(name) or not (ROOT / name).is_file():
            continue
        text = (ROOT / name).read_text()
        words = EVERYWHERE
        words = words | IN_THE_PRODUCT if OF_PRODUCT.search(name) else words
        words = words | IN_THE_DOCS if OF_DOCS.search(name) else words
        complaints += found(words, name, text)
    for complaint in complaints:
        print(complaint)
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
