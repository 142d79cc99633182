//! What one device got of its inbox (I9).

/// What a device was given on a connection, and told before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Numbers in the order in which they came, each as often as its application was given it.
    pub(crate) heard: Vec<u64>,
    /// How many it was told to be lost.
    pub(crate) lost: u64,
}

/// What is wrong with it, where the publications `sent` had not been acked by the device before, and the inbox keeps `cap`.
pub(crate) fn inbox(sent: std::ops::RangeInclusive<u64>, cap: u64, given: &Given) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = (sent.end() + 1).saturating_sub(*sent.start());
    let kept = all.min(cap);
    let first = sent.end() + 1 - kept;
    if given.lost != all - kept {
        wrong.push(format!("told of {} lost ones, {} are", given.lost, all - kept));
    }
    let expected: Vec<u64> = (first..=*sent.end()).collect();
    if given.heard == expected {
        return wrong;
    }
    let mut sorted = given.heard.clone();
    sorted.sort_unstable();
    if sorted != given.heard {
        wrong.push("heard out of order".to_owned());
    }
    sorted.dedup();
    if sorted.len() < given.heard.len() {
        wrong.push(format!("{} heard twice", given.heard.len() - sorted.len()));
    }
    let missing = expected.iter().filter(|number| sorted.binary_search(number).is_err()).count();
    let strange = sorted.iter().filter(|number| expected.binary_search(number).is_err()).count();
    if (missing, strange) != (0, 0) {
        let count = expected.len();
        wrong.push(format!("{missing} of {count} not heard, {strange} heard that were not due"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that was sent had been acked before.
    const NOTHING: std::ops::RangeInclusive<u64> = std::ops::RangeInclusive::new(21, 20);

    #[track_caller]
    fn caught(heard: &[u64], lost: u64, words: &str) {
        let wrong = inbox(11..=20, 5, &Given { heard: heard.to_vec(), lost });
        assert!(wrong.iter().any(|text| text.contains(words)), "{wrong:?}");
    }

    #[test]
    fn the_newest_in_order_and_the_number_of_the_others_are_right() {
        let given = Given { heard: (16..=20).collect(), lost: 5 };
        assert_eq!(inbox(11..=20, 5, &given), Vec::<String>::new());
        let all = Given { heard: (11..=20).collect(), lost: 0 };
        assert_eq!(inbox(11..=20, 10, &all), Vec::<String>::new());
        assert_eq!(inbox(NOTHING, 5, &Given::default()), Vec::<String>::new(), "nothing waits");
    }

    #[test]
    fn what_is_missing_repeated_out_of_order_not_told_or_over_the_quota_is_caught() {
        caught(&[16, 17, 18, 19], 5, "1 of 5 not heard");
        caught(&[16, 17, 17, 18, 19, 20], 5, "1 heard twice");
        caught(&[16, 18, 17, 19, 20], 5, "out of order");
        caught(&[16, 17, 18, 19, 20], 0, "told of 0 lost ones, 5 are");
        caught(&[15, 16, 17, 18, 19, 20], 5, "1 heard that were not due");
        let again = Given { heard: vec![20], lost: 0 };
        assert_eq!(inbox(NOTHING, 5, &again).len(), 1, "it was emptied before");
    }
}
