#!/bin/sh
# Makes what the gateway needs to serve: an authority, certificates that it signed, and Triton's token.
#
#   deploy/certificates.sh [DIR]        DIR is deploy/secrets by default
#
# Each role has a folder of its own, and each container sees its own alone:
#
#   DIR/authority/  ca.key              signs certificates: keep it elsewhere
#   DIR/gateway/    ca.crt server.crt server.key token
#   DIR/triton/     token               asked for by Triton for all but health
#   DIR/canary/     ca.crt client.crt client.key
#   DIR/client/     ca.crt client.crt client.key token      for you and your callers
#
# Again, it renews the certificates; authority and token stay, so that nobody is cut off. Lifetime of the certificates:
# $DAYS, 30 by default; of the authority a year. Further names of the server: $NAMES, as DNS:gpu1.example,IP:10.0.0.7
set -eu
umask 077
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
container=1000 # the user of the containers
mkdir -p "${1:-$here/secrets}"
cd "${1:-$here/secrets}"
case $(id -u) in
0 | "$container") ;;
*) echo "certificates.sh: the containers run as user $container, who could not read your keys: run it with sudo." >&2; exit 1 ;;
esac

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

authority() {
  mkdir -p authority
  new_key authority/ca.key
  openssl req -new -x509 -key authority/ca.key -days 365 -subj "/CN=pipeline authority" \
    -addext keyUsage=critical,keyCertSign -out authority/ca.crt
}

# certificate FOLDER FILE EXTENDED_USAGE [NAMES]
certificate() {
  mkdir -p "$1"
  cp authority/ca.crt "$1/ca.crt"
  new_key "$1/$2.key.new"
  cat >"$1/extensions" <<END
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=$3
authorityKeyIdentifier=keyid
${4:+subjectAltName=$4}
END
  openssl req -new -key "$1/$2.key.new" -subj "/CN=$1" |
    openssl x509 -req -CA authority/ca.crt -CAkey authority/ca.key -set_serial "0x$(openssl rand -hex 16)" \
      -days "${DAYS:-30}" -extfile "$1/extensions" -out "$1/$2.crt.new"
  mv "$1/$2.key.new" "$1/$2.key"
  mv "$1/$2.crt.new" "$1/$2.crt"
  rm "$1/extensions"
}

if [ ! -f authority/ca.key ]; then
  if [ -f gateway/ca.crt ]; then
    echo "certificates.sh: $PWD/authority/ca.key is not there. Bring it back; a new authority would cut everybody off." >&2
    exit 1
  fi
  authority
fi
certificate gateway server serverAuth "DNS:localhost,DNS:gateway,IP:127.0.0.1${NAMES:+,$NAMES}"
certificate canary client clientAuth
certificate client client clientAuth
mkdir -p triton
[ -f triton/token ] || openssl rand -hex 32 >triton/token
cp triton/token gateway/token
cp triton/token client/token # who need not load models nor read statistics goes without

if [ "$(id -u)" = 0 ]; then
  chown -R "$container:$container" gateway canary triton
  chown -R "${SUDO_UID:-0}:${SUDO_GID:-0}" authority client
fi
echo "Certificates for ${DAYS:-30} days in $PWD. Next:"
echo "  SECRETS=$PWD docker compose -f $here/compose.yaml --profile light up --detach --build"
