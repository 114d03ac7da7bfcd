#!/bin/sh
# Makes what docker-compose.yml needs and is not there yet: .env, and in secrets/ a password for the broker and for
# Flower and a token for the gateway. With `local` also an S3 key, for the trial platform, which takes any.
# What is there stays as it is.
set -eu
cd "$(dirname "$0")/.."
mkdir -p secrets
# Only the folder keeps others out: in a container uid 10001 has to read the files.
chmod 700 secrets

random() {
  [ -e "secrets/$1" ] && return
  head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "secrets/$1"
  chmod 444 "secrets/$1"
  echo "made secrets/$1"
}

[ -e .env ] || { cp config/compose.env .env; echo "made .env"; }
random broker_password
random gateway_token
random flower_password
[ "${1:-}" != local ] || random s3_secret_key
if [ ! -e secrets/s3_secret_key ]; then
  echo "Now put the S3 secret key into secrets/s3_secret_key (chmod 444), and what .env asks for into .env."
fi
