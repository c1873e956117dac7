#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything after the image's name goes to wsi-mil; a first word that is a program (sh, python) is run as it is.
set -eu
case "${1:-}" in
  sh | bash | python | python3) exec "$@" ;;
  *) exec wsi-mil "$@" ;;
esac
