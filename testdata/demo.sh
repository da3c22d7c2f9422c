#!/usr/bin/env bash
# The main job, from an empty folder to certificates and a CRL. Every step is a public command, so that this is also the
# manual's first chapter. Usage: demo.sh FOLDER, with the programs in PATH. It asks nothing and begins anew each time.
# With DEMO_UNTIL=N it ends after chapter N: the pages in docs/ go on from there.
set -euo pipefail

csrs=$(cd "$(dirname "$0")/csr" && pwd)
rm -rf "${1:?folder}"
mkdir -p "$1" && cd "$1"
mkdir -p officers approvers machines requests approvals stick ca certs crl

exec 3>&1
bold='' dim='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
chapter() { [ "${1%%.*}" -le "${DEMO_UNTIL:-9}" ] || exit 0; printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say()     { printf '\n%s\n' "$*"; }
# A command is shown (long digests cut), then run; what it says on stderr is for the people at its own screen, and kept
# in words.txt.
shown()   { printf '%s  $ %s%s\n' "$dim" "${*@Q}" "$plain" | sed -E "s/'([^' ]*)'/\1/g; s/\b([0-9a-f]{8})[0-9a-f]{56}\b/\1…/g"; }
run()     { shown "$@"; "$@" 2>>words.txt | sed 's/^/    /'; }
# The same, where what it prints is needed further on.
ask()     { shown "$@" >&3; "$@" 2>>words.txt; }
say "Each command stands after a \$, what it prints below it; what it says besides, on stderr, is in words.txt. Long digests are cut short."
trap 'status=$?; [ $status = 0 ] || { echo "the demo stopped; the last words of the programs were:"; tail -n 12 words.txt; }' EXIT

box="--state appliance --secret-file secret"
desk="--state agent"

chapter "1. Genesis: an appliance begins"
say "Three security officers make their approval keys. On a real day these are smart cards; here they are files."
for n in 1 2 3; do run coldseal key new --type P-256 --no-passphrase --out officers/$n.key; done
(umask 077 && head -c 32 /dev/urandom > secret)
printf 'policy: demo\nclock_ahead: 400 days\n' > policy.yaml
say "They begin the appliance, where any two of them decide. The line it prints is its identity: people type it elsewhere."
digest=$(ask coldseal-appliance genesis $box --name demo --policy policy.yaml --policy library:all --quorum 2 \
  --officer it:SMPBRN79S03F205N=officers/1.key.pub --officer it:PRVLCU91M67L736T=officers/2.key.pub \
  --officer it:CMPGUO66A30A326C=officers/3.key.pub)
echo "    $digest"
known="--introduction introduction --digest $digest"

say "What others need to know of the appliance is in its introduction. It is written anew whenever it changed."
run coldseal-appliance export introduction $box --out introduction
introduce() { coldseal-appliance export introduction $box --out introduction 2>>words.txt; }
# An order is made from what the appliance says of itself, and approved by two officers at the appliance's own console.
order() {
  local file=requests/$1.order; shift
  introduce
  ask coldseal order "$@" $known --out "$file" >/dev/null
  ask coldseal-appliance console order $box --request "$file" --officer officers/1.key --officer officers/2.key --yes
}
say "At the console two officers order a root and an issuing CA: a key, then the certificate over it. The private keys never leave the signer."
root=$(order root-key create-key --label root --algorithm P-384)
echo "    $root"
order root sign-ca --profile root --key "$root" --field name="Demo Root" --field organization=Demo --field country=IT | sed 's/^/    serial /'
issuing=$(order issuing-key create-key --label issuing --algorithm P-256)
echo "    $issuing"
order issuing sign-ca --profile issuing-ca --issuer "$root" --key "$issuing" --field name="Demo Issuing CA" --field organization=Demo --field country=IT | sed 's/^/    serial /'
order root-crl crl --issuer "$root"
introduce
say "On the networked side the agent is set up. It reads the introduction from a stick, but believes it only for the digest that is typed."
run coldseal-agent init $desk --appliance introduction --digest "$digest" --name desk --bodies it,gr
say "The officers enrol the agent: from now on the appliance reads its bundles. It is never trusted with more than carrying."
order agent agent --party agent/enrolment
introduce

chapter "2. A first bundle makes two approvers"
say "A local administrator of the Comune 058091 and a certificate manager of a Greek ministry make keys, and ask for certificates that let them approve."
for who in administrator manager; do
  run coldseal key new --type P-256 --no-passphrase --out approvers/$who.key
  run coldseal key csr --key approvers/$who.key --out approvers/$who.csr
done
run coldseal-agent request issue $desk --profile approver --body it/058091 --subject it:FTTCRL84C52H501V --origin holder \
  --csr approvers/administrator.csr --field name="Carla Fittizia" --scope it-workstation=it/058091 --scope it-server=it/058091
run coldseal-agent request issue $desk --profile approver --body gr/ypes --subject gr:000123454 --origin holder \
  --csr approvers/manager.csr --field name="Μαρία Παράδειγμα" --scope gr-public-servant=gr/ypes

# What a person does who approves: get what waits, look at the exact bytes, state what they saw, sign, hand the approvals
# to the agent.
approve() {
  local key=$1 name=$2 statements=$3; shift 3
  run coldseal-agent pending $desk "$@" --out "requests/$name"
  run coldseal approve --key "$key" $known ${statements:+--statement "$statements"} --dir "requests/$name" --yes --out "approvals/$name/"
  run coldseal-agent attach $desk "approvals/$name"/*
}
say "Two officers meet both persons, compare the fingerprint of the key with the one on each person's own device, and approve."
approve officers/1.key by-officer-1 presence,fingerprint
approve officers/2.key by-officer-2 presence,fingerprint

carry() {
  rm -rf stick/coldseal/*/to-* # a clerk empties the stick after each import: nothing on it is needed any more
  say "The agent seals the bundle, encrypts it to the appliance and writes it to the stick."
  run coldseal-agent export $desk --media stick "$@"
  say "Somebody carries the stick to the appliance, which verifies every approval itself and answers item by item."
  run coldseal-appliance process $box --media stick
  say "Back at the agent, seal, log and every certificate are verified against what was asked."
  run coldseal-agent import $desk --media stick
}
carry

chapter "3. A second bundle: eight requests, of which five are good"
say "Three workstations: for the first the agent makes the key, the others bring CSRs, listed in a table."
run coldseal-agent request issue $desk --profile it-workstation --body it/058091 --subject 058091-PC-0020 --field number=0020 --new-key P-256
printf 'csr,body,subject,number\n' > machines/table.csv
for n in 0021 0022; do
  run coldseal key new --type P-256 --no-passphrase --out machines/$n.key
  run coldseal key csr --key machines/$n.key --out machines/$n.csr
  echo "$n.csr,it/058091,058091-PC-$n,$n" >> machines/table.csv
done
mapfile -t listed < <(ask coldseal-agent request batch $desk --profile it-workstation --dir machines --csv machines/table.csv --origin holder)
printf '    %s\n' "${listed[@]}"
say "A server, whose CSR openssl made, and a public servant, whose CSR NSS made."
run coldseal-agent request issue $desk --profile it-server --body it/058091 --subject 058091-CO-9999 --field number=9999 --field host=anagrafe \
  --csr "$csrs/openssl-p256-plain.csr" --origin holder
run coldseal-agent request issue $desk --profile gr-public-servant --body gr/ypes --subject gr:000246800 --origin holder --csr "$csrs/certutil-p256-greek.csr" \
  --field given-name=Ελένη --field surname=Υποθετική --field organization="Υπουργείο Παραδείγματος" --field email=e.ypothetiki@ypes.example
say "One with a weak key, and one for another Comune than its approver's. The agent would stop the first; --unchecked lets it through."
run coldseal-agent request issue $desk --profile it-workstation --body it/058091 --subject 058091-PC-0666 --field number=0666 \
  --csr "$csrs/openssl-rsa1024-badkey.csr" --origin holder --unchecked
run coldseal-agent request issue $desk --profile it-workstation --body it/058092 --subject 058092-PC-0001 --field number=0001 --new-key P-256
say "The administrator approves the machines, the manager the servant after meeting her."
approve approvers/administrator.key machines fingerprint --body it
approve approvers/manager.key servant presence,fingerprint --body gr
say "A last workstation comes late: nobody has approved it. --incomplete lets it travel all the same."
run coldseal-agent request issue $desk --profile it-workstation --body it/058091 --subject 058091-PC-0023 --field number=0023 --new-key P-256
carry --incomplete

chapter "4. A third bundle takes away"
serial() { coldseal-agent show "$1" $desk --json | sed 's/.*"serial":"\([0-9a-f]*\)".*/\1/'; }
say "The key of 058091-PC-0021 was stolen, and 058091-PC-0022 cannot be found: one is revoked, the other put on hold."
run coldseal-agent request revoke $desk --serial "$(serial "${listed[0]}")" --reason keyCompromise
run coldseal-agent request hold $desk --serial "$(serial "${listed[1]}")"
approve approvers/administrator.key taken-away "" --body it
carry

chapter "5. What there is now"
run coldseal-agent chain $desk --out ca
run coldseal-agent certificates $desk --out certs
run coldseal-agent crls $desk --out crl
run coldseal-agent status $desk
say "An auditor takes the log and replays every order in it, and every approval behind every certificate."
ask coldseal-appliance log export $box --out log
run coldseal log verify --log log $known | head -n 6
ask coldseal log audit --log log $known > audit.txt
echo "    every approval behind every certificate was verified; what was found is in audit.txt"
if command -v openssl >/dev/null; then
  say "openssl, which knows nothing of us, agrees: the chain is good, and the CRL stops what was taken away."
  for crl in crl/*.crl; do openssl crl -inform DER -in "$crl"; done > crls.pem 2>/dev/null
  for cert in certs/*.pem; do
    if openssl verify -x509_strict -crl_check -CAfile ca/root.pem -untrusted ca/issuing.pem -CRLfile crls.pem "$cert" >openssl.txt 2>&1; then
      echo "    good     $cert"
    else
      echo "    stopped  $cert: $(sed -n 's/^error [0-9]* at [0-9]* depth lookup: *//p' openssl.txt | head -n 1)"
    fi
  done
fi
say "All of it lies in $(basename "$PWD")/: ca, certs, crl, the stick, and what the programs said in words.txt."
