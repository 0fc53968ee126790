//! The ring lookup of the filter, for the systems that do the same outside it: in Lua, and in another
//! process.

use std::fmt::Write as _;
use std::net::SocketAddr;

use unitring_routing::hash::xxh64;

/// Points of each of four instances on the filter's default ring.
const POINTS: u32 = 256;

/// The instances on a ring.
pub(crate) struct Ring {
    /// Hash and index of the instance, in order of the hashes.
    points: Vec<(u64, usize)>,
    addresses: Vec<String>,
}

impl Ring {
    pub(crate) fn new(instances: &[SocketAddr]) -> Self {
        let addresses: Vec<String> = instances.iter().map(SocketAddr::to_string).collect();
        let of = |(number, address): (usize, &String)| {
            let hash = |point| xxh64(format!("{address}_{point}").as_bytes());
            let points: Vec<_> = (0..POINTS).map(|point| (hash(point), number)).collect();
            points
        };
        let mut points: Vec<(u64, usize)> = addresses.iter().enumerate().flat_map(of).collect();
        points.sort_unstable();
        Self { points, addresses }
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Option<&str> {
        let hash = xxh64(key);
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let (_, number) = self.points.get(at).or_else(|| self.points.first())?;
        self.addresses.get(*number).map(String::as_str)
    }

    /// A script for Envoy's Lua filter: LuaJIT has 64-bit numbers as C types, and no XXH64.
    pub(crate) fn as_lua(&self) -> String {
        let mut script = String::from(LUA);
        let hashes: Vec<String> = self
            .points
            .iter()
            .map(|(hash, _)| format!("{hash}ULL"))
            .collect();
        let owners: Vec<String> = self
            .points
            .iter()
            .map(|(_, number)| {
                format!(
                    "{:?}",
                    self.addresses.get(*number).map_or("", String::as_str)
                )
            })
            .collect();
        let count = self.points.len();
        // Writing to a string does not fail.
        write!(
            script,
            "local count = {count}\nlocal points = ffi.new('uint64_t[{count}]', {{{}}})\nlocal owners = {{{}}}\n{LUA_LOOKUP}",
            hashes.join(","),
            owners.join(","),
        )
        .ok();
        script
    }
}

const LUA: &str = r"
local ffi, bit = require('ffi'), require('bit')
local rol, xor, shr = bit.rol, bit.bxor, bit.rshift
local P1, P2, P3, P4, P5 = 11400714785074694791ULL, 14029467366897019727ULL,
  1609587929392839161ULL, 9650029242287828579ULL, 2870177450012600261ULL
local u64, u32 = ffi.typeof('const uint64_t *'), ffi.typeof('const uint32_t *')
-- Of fewer than 32 bytes, which the keys have.
local function xxh64(key)
  local bytes, left = ffi.cast('const uint8_t *', key), #key
  local h = P5 + left
  while left >= 8 do
    h = rol(xor(h, rol(ffi.cast(u64, bytes)[0] * P2, 31) * P1), 27) * P1 + P4
    bytes, left = bytes + 8, left - 8
  end
  if left >= 4 then
    h = rol(xor(h, ffi.cast(u32, bytes)[0] * P1), 23) * P2 + P3
    bytes, left = bytes + 4, left - 4
  end
  for i = 0, left - 1 do h = rol(xor(h, bytes[i] * P5), 11) * P1 end
  h = xor(h, shr(h, 33)) * P2
  h = xor(h, shr(h, 29)) * P3
  return xor(h, shr(h, 32))
end
";

const LUA_LOOKUP: &str = r"
function envoy_on_request(handle)
  local key = handle:headers():get('x-user-id')
  if not key then return end
  local hash, low, high = xxh64(key), 0, count
  while low < high do
    local middle = shr(low + high, 1)
    if points[middle] < hash then low = middle + 1 else high = middle end
  end
  handle:headers():replace('x-unitring-host', owners[(low % count) + 1])
end
";
