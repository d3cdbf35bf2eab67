#!/usr/bin/env bash
# Phone libraries differ country by country on old and new numbers of one person, and give strangers the same match.
set -euo pipefail

python_old=8.13.0 python_new=9.0.43 javascript=1.13.16
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Versions: PyPI phonenumbers $python_new and $python_old, npm libphonenumber-js $javascript. Subscribers' digits are made up.
Expected: messengers keep the number an account was opened with, in the form it had before its country renumbered. All
          releases and both libraries would say the same of that form, and is_number_match() would say of each country
          alike that the old and the new form are one person's.
Seen:     * the old form is impossible in Mexico, Benin and Côte d'Ivoire, possible but not valid in Brazil, and in
            Argentina (mobile without the 9) valid as a landline;
          * a release changes it: phonenumbers $python_old takes the 1 out of Mexico's old form and says possible, valid
            and EXACT_MATCH; of Benin, which renumbered after that release, it says the opposite of today;
          * libphonenumber-js calls Brazil's old form valid, but with its metadata /max not valid;
          * is_number_match() says SHORT_NSN_MATCH where digits were put in front, NO_MATCH in Brazil, where one went
            in after the area code;
          * and SHORT_NSN_MATCH also for an Ivorian's old number and the new number of somebody at another operator:
            the old digits end both, and only the digits in front, 01, 05 or 07, tell the two apart.
Hint:     never take SHORT_NSN_MATCH for the same person, nor "not possible" for a wrong number; translate the old form
          by each country's own rule.

TEXT

cat > "$work/check.py" <<'PYTHON'
import sys
from importlib.metadata import version

from phonenumbers import MatchType, is_number_match, is_possible_number, is_valid_number, parse

MATCH = {value: name for name, value in vars(MatchType).items() if name.isupper()}


def known(text):
    number = parse(text)
    possible = "possible" if is_possible_number(number) else "impossible"
    return f"{text} {possible} {'valid' if is_valid_number(number) else 'invalid'}"


print("phonenumbers", version("phonenumbers"))
for line in open(sys.argv[1]):
    who, old, new = line.split()
    print(f"  {who:14} {known(old):35} {known(new):35} {MATCH[is_number_match(old, new)]}")
PYTHON

cat > "$work/check.cjs" <<'JAVASCRIPT'
const fs = require('node:fs');

for (const metadata of ['libphonenumber-js', 'libphonenumber-js/max']) {
  const { parsePhoneNumber } = require(metadata);
  const known = (text) => {
    const number = parsePhoneNumber(text);
    return `${text} ${number.isPossible() ? 'possible' : 'impossible'} ${number.isValid() ? 'valid' : 'invalid'}`;
  };
  console.log(metadata);
  for (const line of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
    const [who, old, renumbered] = line.split(/\s+/);
    console.log(`  ${who.padEnd(14)} ${known(old).padEnd(35)} ${known(renumbered)}`);
  }
}
JAVASCRIPT

# Who, the old form, the new form. The last: an old form and a stranger's new number.
cat > "$work/numbers" <<'TEXT'
Mexico         +5215512345678 +525512345678
Brazil         +551187654321  +5511987654321
Argentina      +541123456789  +5491123456789
Benin          +22997123456   +2290197123456
Côte-d'Ivoire  +22505123456   +2250505123456
stranger       +22505123456   +2250705123456
TEXT

export PYTHONUTF8=1
for version in "$python_new" "$python_old"; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "phonenumbers==$version"
  "$work/$version/bin/python" "$work/check.py" "$work/numbers"
done > "$work/seen"
npm install --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel error "libphonenumber-js@$javascript" \
  > "$work/npm.log" || { cat "$work/npm.log"; exit 1; }
node "$work/check.cjs" "$work/numbers" >> "$work/seen"

cat "$work/seen"
diff -u - "$work/seen" <<TEXT || { echo "This has changed."; exit 1; }
phonenumbers $python_new
  Mexico         +5215512345678 impossible invalid   +525512345678 possible valid        SHORT_NSN_MATCH
  Brazil         +551187654321 possible invalid      +5511987654321 possible valid       NO_MATCH
  Argentina      +541123456789 possible valid        +5491123456789 possible valid       SHORT_NSN_MATCH
  Benin          +22997123456 impossible invalid     +2290197123456 possible valid       SHORT_NSN_MATCH
  Côte-d'Ivoire  +22505123456 impossible invalid     +2250505123456 possible valid       SHORT_NSN_MATCH
  stranger       +22505123456 impossible invalid     +2250705123456 possible valid       SHORT_NSN_MATCH
phonenumbers $python_old
  Mexico         +5215512345678 possible valid       +525512345678 possible valid        EXACT_MATCH
  Brazil         +551187654321 possible invalid      +5511987654321 possible valid       NO_MATCH
  Argentina      +541123456789 possible valid        +5491123456789 possible valid       SHORT_NSN_MATCH
  Benin          +22997123456 possible valid         +2290197123456 impossible invalid   SHORT_NSN_MATCH
  Côte-d'Ivoire  +22505123456 impossible invalid     +2250505123456 possible valid       SHORT_NSN_MATCH
  stranger       +22505123456 impossible invalid     +2250705123456 possible valid       SHORT_NSN_MATCH
libphonenumber-js
  Mexico         +5215512345678 impossible invalid   +525512345678 possible valid
  Brazil         +551187654321 possible valid        +5511987654321 possible valid
  Argentina      +541123456789 possible valid        +5491123456789 possible valid
  Benin          +22997123456 impossible invalid     +2290197123456 possible valid
  Côte-d'Ivoire  +22505123456 impossible invalid     +2250505123456 possible valid
  stranger       +22505123456 impossible invalid     +2250705123456 possible valid
libphonenumber-js/max
  Mexico         +5215512345678 impossible invalid   +525512345678 possible valid
  Brazil         +551187654321 possible invalid      +5511987654321 possible valid
  Argentina      +541123456789 possible valid        +5491123456789 possible valid
  Benin          +22997123456 impossible invalid     +2290197123456 possible valid
  Côte-d'Ivoire  +22505123456 impossible invalid     +2250505123456 possible valid
  stranger       +22505123456 impossible invalid     +2250705123456 possible valid
TEXT
