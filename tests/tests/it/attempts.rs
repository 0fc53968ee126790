//! Calls, failures and load are Envoy's own of each host, whatever happens to a request on its way: it is
//! hedged, redirected, fails by gRPC, goes to a subset, or a later filter sends it elsewhere.

mod elsewhere;
mod grpc;
mod twice;
