//! How is a story told? A cluster, what happens to it, and what must be true then.
pub struct Cluster;
pub struct Expectation;
pub trait Seconds {}
pub fn any() {}
pub fn cluster() {}
pub fn never() {}
pub fn node() {}
pub fn pair() {}
pub fn resource() {}
