//! What is kept from one scrape to the next.

use super::ages::Ages;
use super::ends::Ends;
use super::rates::Rates;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Scraper {
    /// How far groups are behind in time, as of the last scrapes.
    pub(super) ages: Ages,
    /// What counters were at the last scrapes.
    pub(super) rates: Rates,
    /// Where partitions end that have no replica here, as of this scrape.
    pub(in crate::http) ends: Ends,
}
