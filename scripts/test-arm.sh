#!/usr/bin/env bash
# The kernels' tests and the model inside on 64-bit Arm, emulated by QEMU: on a processor without integer dot products
# (cortex-a72), on one with them (cortex-a76) and on one with everything that QEMU knows (max).
# Installs the Debian packages that are missing where it may. Where they cannot be had, says why on a line that begins with
# "skipped:" and succeeds.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

target=aarch64-unknown-linux-gnu
# Emulation costs a factor of some thirty; what few cases do not find, the many of `make test` do.
export PROPTEST_CASES=${PROPTEST_CASES:-8}
# What a hanging test may cost; all of it takes about a minute for each processor.
limit_s=900

skip() {
  echo "skipped: $*"
  exit 0
}

[ "$(uname -s)" = Linux ] || skip "QEMU emulates single programs on Linux only, this is $(uname -s)"
[ "$(uname -m)" = x86_64 ] || skip "this processor is $(uname -m); \`make test\` tests it as it is"

has_std() { # a Rust compiler
  local folder
  folder=$("$1" --print target-libdir --target "$target" 2>/dev/null) && compgen -G "$folder/libstd-*" >/dev/null
}
find_rustc() { # the one of rust-toolchain.toml if it has the target, else Debian's
  local rustc needed
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  for rustc in rustc /usr/bin/rustc; do
    if has_std "$rustc" && printf '%s\n' "$needed" "$("$rustc" --version | cut -d' ' -f2)" | sort -VC; then
      command -v "$rustc"
      return
    fi
  done
  return 1
}
missing_packages() {
  command -v aarch64-linux-gnu-gcc >/dev/null || echo gcc-aarch64-linux-gnu
  [ -e /usr/aarch64-linux-gnu/lib/crt1.o ] || echo libc6-dev-arm64-cross
  command -v qemu-aarch64-static >/dev/null || echo qemu-user-static
  find_rustc >/dev/null || echo rustc-web "libstd-rust-web-dev:arm64"
}

install_packages() { # names; says on its last line what went wrong
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "only root may install them"; return 1; }
    root=(sudo -n)
  fi
  command -v apt-get >/dev/null || { echo "there is no apt-get to install them with"; return 1; }
  local log
  log=$(mktemp)
  if "${root[@]}" dpkg --add-architecture arm64 >"$log" 2>&1 &&
    "${root[@]}" timeout 300 apt-get update >>"$log" 2>&1 &&
    "${root[@]}" timeout 600 env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  echo "apt-get: $(tail -n 1 "$log")"
  rm -f "$log"
  return 1
}

mapfile -t missing < <(missing_packages | tr ' ' '\n')
if [ "${#missing[@]}" -ne 0 ]; then
  echo "installing ${missing[*]}"
  problem=$(install_packages "${missing[@]}") || skip "${missing[*]} missing, and ${problem##*$'\n'}"
  mapfile -t missing < <(missing_packages | tr ' ' '\n')
  [ "${#missing[@]}" -eq 0 ] || skip "${missing[*]} installed and still not enough"
fi
RUSTC=$(find_rustc)
export RUSTC
echo "$("$RUSTC" --version), $(qemu-aarch64-static --version | head -n 1)"

# Where Debian's own Arm libraries are installed, as with its Rust, their loader must be taken as well: the cross compiler's
# would find the other libraries through the system's cache, and programs hang where they start a thread.
libraries=(-L /usr/aarch64-linux-gnu)
[ -e /lib/ld-linux-aarch64.so.1 ] && libraries=()

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# A stored number that is not met is a mistake, never a reason to store another.
export INSTA_UPDATE=no INSTA_WORKSPACE_ROOT=$PWD
tests=(cargo test --target "$target" -p kernels --lib -p engine --test same_bits)
"${tests[@]}" --no-run || exit 1

failed=0
test_on() { # a processor of QEMU, what must be found on it, arguments of the tests
  local began=$SECONDS cpu=$1 expected=$2
  shift 2
  echo "== $cpu, which has $expected"
  EXPECT_ISA=$expected CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $cpu ${libraries[*]}" \
    timeout "$limit_s" "${tests[@]}" -- "$@" || failed=1
  echo "== $cpu: $((SECONDS - began)) s"
}
# Without dot products whole numbers are multiplied by the scalar kernels, which every machine runs in `make test`; emulated,
# the bundles would take a quarter of an hour.
test_on cortex-a72 neon --skip _bundle_gives
test_on cortex-a76 neon,dotprod
test_on max neon,dotprod
exit "$failed"
