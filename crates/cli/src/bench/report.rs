//! Tables for people. Pure: builds text.

use super::outcome::Outcome;

/// A table with a header, columns as wide as their widest cell; the first to the left, the others to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// As lines of text.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// Outcomes one below the other.
pub(crate) fn outcomes(outcomes: &[Outcome]) -> Vec<String> {
    let mut table = Table::new(&[
        "job",
        "conns",
        "deliveries",
        "per s",
        "bytes",
        "µs/delivery",
        "µs/publ",
        "cpu %",
        "µs/connect",
        "rss B/conn",
        "p50 ms",
        "p99 ms",
        "max ms",
        "own µs",
        "verdict",
    ]);
    for outcome in outcomes {
        let cost = outcome.server.as_ref();
        let figure = |number: Option<f64>, digits: usize| {
            number
                .filter(|number| *number > 0.0)
                .map_or_else(|| "-".into(), |number| format!("{number:.digits$}"))
        };
        table.row(vec![
            outcome.job.clone(),
            outcome.connections.to_string(),
            outcome.deliveries.to_string(),
            figure(Some(outcome.deliveries_per_s), 0),
            figure(Some(outcome.frame_bytes), 0),
            figure(cost.map(|cost| cost.us_per_delivery), 2),
            figure(cost.map(|cost| cost.us_per_publication), 1),
            figure(cost.map(|cost| cost.cpu_percent), 1),
            figure(cost.map(|cost| cost.connect_us), 1),
            figure(cost.map(|cost| cost.rss_bytes_per_connection), 0),
            figure(Some(outcome.latency.p50_ms), 2),
            figure(Some(outcome.latency.p99_ms), 2),
            figure(Some(outcome.latency.max_ms), 1),
            figure(Some(outcome.generator_us_per_delivery), 2),
            verdict(outcome),
        ]);
    }
    table.lines()
}

/// What went wrong, in few words.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    if outcome.is_clean() {
        return "clean".into();
    }
    let mut faults = Vec::new();
    for (count, what) in
        [(outcome.lost, "lost"), (outcome.repeated, "repeated"), (outcome.reordered, "reordered")]
    {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    faults.extend(outcome.errors.iter().map(|(name, count)| format!("{count} × {name}")));
    faults.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["job", "µs"]);
        table.row(vec!["paced".into(), "8.61".into()]);
        table.row(vec!["x".into(), "12.00".into()]);
        assert_eq!(table.lines(), ["job       µs", "paced   8.61", "x      12.00"]);
    }

    #[test]
    fn faults_are_named_with_their_number() {
        let mut outcome = Outcome { lost: 3, ..Outcome::default() };
        outcome.errors.insert("rate_limit".into(), 2);
        assert_eq!(verdict(&outcome), "3 lost, 2 × rate_limit");
        assert_eq!(verdict(&Outcome::default()), "clean");
        assert_eq!(outcomes(&[outcome]).len(), 2);
    }
}
