//! What attempts of a job used, as their workers reported it.

use std::sync::Arc;

/// The sum over a job's attempts, except `peak_rss` (the largest) and `model` (the last one named).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ms: u64,
    pub peak_rss: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_micros: u64,
    pub tool_calls: u64,
    pub model: Arc<str>,
}

impl Usage {
    /// Takes in what was used since.
    pub fn add(&mut self, more: &Usage) {
        self.cpu_ms = self.cpu_ms.saturating_add(more.cpu_ms);
        self.peak_rss = self.peak_rss.max(more.peak_rss);
        self.tokens_in = self.tokens_in.saturating_add(more.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(more.tokens_out);
        self.cost_micros = self.cost_micros.saturating_add(more.cost_micros);
        self.tool_calls = self.tool_calls.saturating_add(more.tool_calls);
        if !more.model.is_empty() {
            self.model = more.model.clone();
        }
    }
}
