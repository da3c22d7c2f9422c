#!/bin/sh
# Makes the certificate requests in this directory anew, each <tool>-<key>-<what>.csr in PEM as the tool writes it.
# Needs Debian 12 with openssl gnutls-bin libnss3-tools default-jre-headless, and Go for forge/, which makes what no
# tool will. Run: testdata/csr/make.sh. Keys are random and thrown away: only the requests are kept, and every run
# gives other bytes. What protocol/csr must say about each file stands in the table of protocol/csr/files_test.go;
# names of bad requests begin with the tool like all others, and say in <what> what is wrong.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C.UTF-8
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/new"
cd "$tmp/new"

greek='Γεώργιος Παπαδόπουλος'
ukrainian='Олександр Шевченко'
vietnamese='Nguyễn Thị Hồng Nhung'

# --- openssl -------------------------------------------------------------------------------------------------
openssl_key() { # name, genpkey arguments
	name=$1
	shift
	openssl genpkey -quiet -out "$tmp/$name.key" "$@" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
}
openssl_csr() { # key, what, subject, req arguments
	key=$1 what=$2 subject=$3
	shift 3
	openssl req -new -batch -utf8 -key "$tmp/$key.key" -subj "$subject" -out "openssl-$key-$what.csr" "$@"
}
san='subjectAltName=DNS:ws-0042.it.example,DNS:ws-0042,IP:192.0.2.42,IP:2001:db8::42,email:desk@example.org,URI:https://example.org/ws/0042'

openssl_key rsa2048 -algorithm RSA -pkeyopt rsa_keygen_bits:2048
openssl_key rsa3072 -algorithm RSA -pkeyopt rsa_keygen_bits:3072
openssl_key rsa4096 -algorithm RSA -pkeyopt rsa_keygen_bits:4096
openssl_key p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
openssl_key p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
openssl_key ed25519 -algorithm ED25519
for key in rsa2048 rsa3072 rsa4096 p256 p384 ed25519; do
	openssl_csr $key plain "/C=IT/O=Comune/CN=ws-0042"
done
for key in rsa2048 p256 ed25519; do
	openssl_csr $key san "/C=IT/O=Comune/CN=ws-0042" -addext "$san"
done
openssl_csr p256 greek "/C=GR/O=Περιφέρεια Κρήτης/CN=$greek"
openssl_csr p384 ukrainian "/C=UA/O=Міністерство/CN=$ukrainian"
openssl_csr rsa3072 vietnamese "/C=VN/O=Bộ Tài chính/CN=$vietnamese"
openssl_csr ed25519 usages "/CN=public servant" -addext "keyUsage=critical,digitalSignature" \
	-addext "extendedKeyUsage=clientAuth" -addext "basicConstraints=critical,CA:FALSE"
openssl_csr p256 emptysubject "/" -addext "$san"
openssl_csr p256 multirdn "/C=IT/CN=ws-0042+serialNumber=42" -multivalue-rdn
openssl_csr rsa2048 pss "/CN=ws-0042" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
openssl_csr rsa2048 pss-longsalt "/CN=ws-0042" -sha384 -sigopt rsa_padding_mode:pss
openssl_csr rsa3072 sha512 "/CN=ws-0042" -sha512
cat >"$tmp/challenge.cnf" <<-END
	[req]
	prompt = no
	distinguished_name = dn
	attributes = attributes
	req_extensions = extensions
	[dn]
	CN = ws-0042
	[attributes]
	challengePassword = not used here
	unstructuredName = Comune
	[extensions]
	subjectAltName = DNS:ws-0042.it.example
END
openssl req -new -batch -key "$tmp/p256.key" -config "$tmp/challenge.cnf" -out openssl-p256-challenge.csr

# Bad ones.
openssl_key rsa1024 -algorithm RSA -pkeyopt rsa_keygen_bits:1024
openssl_key rsa2048e3 -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3
openssl_key rsapss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
openssl_key p521 -algorithm EC -pkeyopt ec_paramgen_curve:P-521
openssl_key secp256k1 -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1
openssl_key p256explicit -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
openssl_key ed448 -algorithm ED448
openssl ec -in "$tmp/p256.key" -conv_form compressed -out "$tmp/p256compressed.key" 2>"$tmp/log"
openssl dsaparam -genkey -out "$tmp/dsa2048.key" 2048 2>"$tmp/log"
for key in rsa1024 rsa2048e3 rsapss p521 secp256k1 p256explicit p256compressed ed448 dsa2048; do
	openssl_csr $key badkey "/CN=ws-0042"
done
openssl_csr rsa2048 sha1 "/CN=ws-0042" -sha1
openssl_csr rsa2048 md5 "/CN=ws-0042" -md5
openssl_csr p256 sha1 "/CN=ws-0042" -sha1
openssl_csr rsa2048 pss-sha1 "/CN=ws-0042" -sha1 -sigopt rsa_padding_mode:pss

# --- GnuTLS --------------------------------------------------------------------------------------------------
certtool_csr() { # key, what, template; further certtool arguments
	key=$1 what=$2 template=$3
	shift 3
	printf '%b' "$template" >"$tmp/template"
	certtool --generate-request --load-privkey "$tmp/gnutls-$key.key" --template "$tmp/template" \
		--outfile "certtool-$key-$what.csr" "$@" 2>"$tmp/log" || { cat "$tmp/log" >&2; exit 1; }
}
certtool_key() { # name, certtool arguments
	name=$1
	shift
	certtool --generate-privkey --no-text --outfile "$tmp/gnutls-$name.key" "$@" 2>"$tmp/log"
}
certtool_key rsa2048 --key-type rsa --bits 2048
certtool_key rsa3072 --key-type rsa --bits 3072
certtool_key p256 --key-type ecdsa --curve secp256r1
certtool_key p384 --key-type ecdsa --curve secp384r1
certtool_key ed25519 --key-type ed25519
for key in rsa2048 rsa3072 p256 p384 ed25519; do
	certtool_csr $key san 'country = IT\norganization = Comune\ncn = ws-0042\ndns_name = ws-0042.it.example\nip_address = 192.0.2.42\nemail = desk@example.org\nuri = https://example.org/ws/0042\ntls_www_client\nsigning_key\n'
done
certtool_csr p256 plain 'cn = ws-0042\n'
certtool_csr p256 greek "country = GR\ncn = $greek\n"
certtool_csr ed25519 ukrainian "country = UA\ncn = $ukrainian\n"
certtool_csr rsa2048 vietnamese "country = VN\ncn = $vietnamese\nchallenge_password = unused\n" --hash SHA384

# --- NSS -----------------------------------------------------------------------------------------------------
mkdir "$tmp/nss"
printf '\n' >"$tmp/nss/password"
head -c 2048 /dev/urandom >"$tmp/nss/noise"
certutil -N -d "sql:$tmp/nss" -f "$tmp/nss/password" --empty-password
certutil_csr() { # key, what, subject, certutil arguments
	key=$1 what=$2 subject=$3
	shift 3
	case $key in
	rsa*) set -- -k rsa -g "${key#rsa}" -Z SHA256 "$@" ;;
	p256) set -- -k ec -q nistp256 -Z SHA256 "$@" ;;
	p384) set -- -k ec -q nistp384 -Z SHA384 "$@" ;;
	p521) set -- -k ec -q nistp521 -Z SHA512 "$@" ;;
	esac
	certutil -R -a -d "sql:$tmp/nss" -f "$tmp/nss/password" -z "$tmp/nss/noise" -s "$subject" \
		-o "certutil-$key-$what.csr" "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
}
for key in rsa2048 rsa3072 p256 p384 p521; do
	certutil_csr $key plain "CN=ws-0042,O=Comune,C=IT"
done
for key in rsa2048 p256; do
	certutil_csr $key san "CN=ws-0042,O=Comune,C=IT" \
		--extSAN dns:ws-0042.it.example,ip:192.0.2.42,email:desk@example.org,uri:https://example.org/ws/0042
done
certutil_csr p256 greek "CN=$greek,C=GR"
certutil_csr p384 ukrainian "CN=$ukrainian,C=UA"
certutil_csr rsa2048 vietnamese "CN=$vietnamese,C=VN"

# --- Java ----------------------------------------------------------------------------------------------------
keytool_csr() { # key, what, subject, keytool -certreq arguments
	key=$1 what=$2 subject=$3
	shift 3
	case $key in
	rsa*) algorithm="-keyalg RSA -keysize ${key#rsa}" ;;
	p256) algorithm="-keyalg EC -groupname secp256r1" ;;
	p384) algorithm="-keyalg EC -groupname secp384r1" ;;
	ed25519) algorithm="-keyalg Ed25519" ;;
	esac
	rm -f "$tmp/java.p12"
	# shellcheck disable=SC2086 # the words of $algorithm are arguments
	keytool -genkeypair -alias key $algorithm -dname "$subject" -keystore "$tmp/java.p12" -storepass password \
		>"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
	keytool -certreq -alias key -keystore "$tmp/java.p12" -storepass password -file "keytool-$key-$what.csr" "$@" \
		>"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
}
for key in rsa2048 rsa3072 p256 p384 ed25519; do
	keytool_csr $key plain "CN=ws-0042, O=Comune, C=IT"
done
for key in rsa2048 p256 ed25519; do
	keytool_csr $key san "CN=ws-0042, O=Comune, C=IT" \
		-ext san=dns:ws-0042.it.example,ip:192.0.2.42,email:desk@example.org,uri:https://example.org/ws/0042
done
keytool_csr rsa3072 greek "CN=$greek, C=GR"
keytool_csr p256 ukrainian "CN=$ukrainian, C=UA"
keytool_csr ed25519 vietnamese "CN=$vietnamese, C=VN"
keytool_csr p384 vietnamese "CN=$vietnamese, C=VN"
keytool_csr ed25519 greek "CN=$greek, C=GR"
keytool_csr rsa2048 pss "CN=ws-0042" -sigalg RSASSA-PSS
keytool_csr rsa2048 sha1 "CN=ws-0042" -sigalg SHA1withRSA

# --- What no tool makes --------------------------------------------------------------------------------------
(cd "$here" && go run ./forge "$tmp/new")

# All made: only now the old ones go.
rm -f "$here"/*.csr
mv ./*.csr "$here"
