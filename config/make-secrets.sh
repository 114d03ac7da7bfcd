#!/bin/sh
# Makes what docker-compose.yml needs and is not there yet: .env, and in secrets/ a password for the broker and for
# Flower and a token for the gateway. With `local` all of it is for the trial platform, which takes any S3 key.
# What is there stays as it is.
set -eu
cd "$(dirname "$0")/.."
platform=${1:-real}
trial_host='HASH_WORKER_API__ALLOWED_HOSTS=["platform:8000"]'

random() {
  [ -e "secrets/$1" ] && return
  head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "secrets/$1"
  chmod 444 "secrets/$1"
  echo "made secrets/$1"
}

if [ ! -e .env ]; then
  cp config/compose.env .env
  [ "$platform" != local ] || cat >> .env <<END

# The platform of the profile \`local\`, and its storage.
$trial_host
HASH_WORKER_STORAGES__DEFAULT__ACCESS_KEY=local
HASH_WORKER_STORAGES__DEFAULT__ENDPOINT_URL=http://platform:9000
END
  echo "made .env"
fi

if grep -qxF "$trial_host" .env; then named=local; else named=real; fi
if [ "$platform" != "$named" ]; then
  case $named in
    local) echo "Here is a trial: end it with \`docker compose --profile local down -v\`, then" \
      "\`rm -f .env secrets/s3_secret_key\`, and this again." ;;
    real) echo "Here is a real platform: \`docker compose down\`, put .env and secrets/s3_secret_key elsewhere," \
      "and this again." ;;
  esac
  exit 1
fi >&2

mkdir -p secrets
# Only the folder keeps others out: in a container uid 10001 has to read the files.
chmod 700 secrets
random broker_password
random gateway_token
random flower_password
if [ "$platform" = local ]; then
  random s3_secret_key
elif [ ! -e secrets/s3_secret_key ]; then
  echo "Now put the S3 secret key into secrets/s3_secret_key (chmod 444), and what .env asks for into .env."
fi
