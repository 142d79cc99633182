//! Scripts about what a broker keeps: positions, pages, retention, ids, lost keys and moves (G2, G5, G7, G12).
//!
//! `{two}` are the bytes of two envelopes of `1 publishes news text bytes=9` as the broker counts them. Times keep some
//! distance from their bounds, because a server's clock cannot be stopped.

use super::Script;

/// The scripts that every broker passes which keeps publications.
pub const HISTORY: &[Script] = &[
    Script {
        claim: "offsets rise by one over all nodes, and every node hears them in order",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 publishes news a keep=10
            2 publishes news b
            1 publishes news c
            1 hears
            2 hears",
        expected: "1: subscribed news, news a e0:1, stored 1 e0:1, news b e0:2, news c e0:3, stored 3 e0:3
            2: subscribed news, news a e0:1, news b e0:2, stored 2 e0:2, news c e0:3",
    },
    Script {
        claim: "each room has its own stream, and an ephemeral one has none",
        steps: "1 attaches
            1 publishes news a keep=10
            1 publishes other b keep=10
            1 publishes talk c
            1 publishes news d
            1 hears completions",
        expected: "1: stored 1 e0:1, stored 2 e1:1, published 3, stored 4 e0:2",
    },
    Script {
        claim: "heads are answered in the order of the question, of rooms without publications too",
        steps: "1 attaches
            1 heads news
            1 heads other
            1 publishes news a keep=10
            1 heads other news
            1 publishes other b keep=10
            1 heads news other
            1 hears answers",
        expected: "1: heads e0:0, heads e1:0, stored 1 e0:1, heads e1:0 e0:1, stored 2 e1:1, heads e0:1 e1:1",
    },
    Script {
        claim: "forward pages go on above an offset and say when nothing lies beyond",
        steps: "1 attaches
            1 reads news above 0
            1 hears answers
            1 publishes news a keep=10
            1 publishes news b
            1 publishes news c
            1 hears completions
            1 reads news above 0
            1 reads news above 0 limit=3
            1 reads news above 0 limit=2
            1 reads news above 1 limit=1
            1 reads news above 2 limit=1
            1 reads news above 3
            1 reads news above 9
            1 hears answers",
        expected: "1: page e0:0 from 1: whole
            1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: page e0:3 from 1: e0:1 a; e0:2 b; e0:3 c; whole, page e0:3 from 1: e0:1 a; e0:2 b; e0:3 c; whole, \
                   page e0:3 from 1: e0:1 a; e0:2 b; more, page e0:3 from 1: e0:2 b; more, \
                   page e0:3 from 1: e0:3 c; whole, page e0:3 from 1: whole, page e0:3 from 1: whole",
    },
    Script {
        claim: "backward pages have the newest below an offset, oldest first",
        steps: "1 attaches
            1 publishes news a keep=10
            1 publishes news b
            1 publishes news c
            1 hears completions
            1 reads news below max
            1 reads news below max limit=2
            1 reads news below 3 limit=2
            1 reads news below 3 limit=1
            1 reads news below 1
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: page e0:3 from 1: e0:1 a; e0:2 b; e0:3 c; whole, page e0:3 from 1: e0:2 b; e0:3 c; more, \
                   page e0:3 from 1: e0:1 a; e0:2 b; whole, page e0:3 from 1: e0:2 b; more, \
                   page e0:3 from 1: whole",
    },
    Script {
        claim: "a page has no more bytes than asked for, but one publication",
        steps: "1 attaches
            1 publishes news a keep=10 bytes=9
            1 publishes news b bytes=9
            1 publishes news c bytes=9
            1 hears completions
            1 reads news above 0 bytes={two}
            1 reads news above 0 bytes={two-1}
            1 reads news below max bytes={two}
            1 reads news below max bytes={two-1}
            1 reads news above 0 bytes=1
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: page e0:3 from 1: e0:1 a........; e0:2 b........; more, page e0:3 from 1: e0:1 a........; more, \
                   page e0:3 from 1: e0:2 b........; e0:3 c........; more, page e0:3 from 1: e0:3 c........; more, \
                   page e0:3 from 1: e0:1 a........; more",
    },
    Script {
        claim: "as many are kept as the room's size says, and not one more",
        steps: "1 attaches
            1 publishes news a keep=3
            1 publishes news b
            1 publishes news c
            1 hears completions
            1 reads news above 0
            1 hears answers
            1 publishes news d
            1 hears completions
            1 reads news above 0
            1 hears answers
            1 publishes news e
            1 hears completions
            1 reads news below max limit=3
            1 reads news above 0 keep=1
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: page e0:3 from 1: e0:1 a; e0:2 b; e0:3 c; whole
            1: stored 4 e0:4
            1: page e0:4 from 2: e0:2 b; e0:3 c; e0:4 d; whole
            1: stored 5 e0:5
            1: page e0:5 from 3: e0:3 c; e0:4 d; e0:5 e; whole, page e0:5 from 5: e0:5 e; whole",
    },
    Script {
        claim: "as many bytes are kept as the room's bound says, and not one more",
        steps: "1 attaches
            1 publishes news a keep=9 keep_bytes={two} bytes=9
            1 publishes news b bytes=9
            1 publishes other a keep=9 keep_bytes={two-1} bytes=9
            1 publishes other b bytes=9
            1 hears completions
            1 reads news above 0
            1 reads other above 0
            1 hears answers
            1 publishes news c bytes=9
            1 publishes other c keep=9 keep_bytes=9 bytes=10
            1 hears completions
            1 reads news above 0
            1 reads other above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e1:1, stored 4 e1:2
            1: page e0:2 from 1: e0:1 a........; e0:2 b........; whole, page e1:2 from 2: e1:2 b........; whole
            1: stored 5 e0:3, stored 6 e1:3
            1: page e0:3 from 2: e0:2 b........; e0:3 c........; whole, page e1:3 from 4: whole",
    },
    Script {
        claim: "what is kept is not older than the room's time says, and its end renews nothing",
        steps: "1 attaches
            1 publishes news a keep=9 keep_ttl=1000
            at 400
            1 publishes news b
            at 700
            1 reads news above 0
            at 1100
            1 reads news above 0
            at 1900
            1 reads news above 0
            1 heads news
            1 publishes news c
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, page e0:2 from 1: e0:1 a; e0:2 b; whole, \
                   page e0:2 from 2: e0:2 b; whole, page e0:2 from 3: whole, heads e0:2, stored 3 e0:3, \
                   page e0:3 from 3: e0:3 c; whole",
    },
    Script {
        claim: "a repeat gets the position of the first and is not delivered again",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 publishes news a id=x keep=9
            1 publishes news b
            1 publishes news a id=x
            2 publishes news a id=x dedup
            1 hears completions
            2 hears
            1 reads news above 0
            1 hears",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:1
            2: subscribed news, news a e0:1, news b e0:2, stored 4 e0:1
            1: page e0:2 from 1: e0:1 a; e0:2 b; whole",
    },
    Script {
        claim: "other content or another type under an id of a kept room is refused",
        steps: "1 attaches
            1 publishes news a id=x keep=9
            1 publishes news b id=x
            1 publishes news a id=x kind=other
            1 publishes news a id=x by=bob
            1 publishes other a id=x keep=9
            1 heads news
            1 hears answers",
        expected: "1: stored 1 e0:1, duplicate 2, duplicate 3, stored 4 e0:2, stored 5 e1:1, heads e0:2",
    },
    Script {
        claim: "an id is remembered while its publication is kept",
        steps: "1 attaches
            1 publishes news a id=x keep=2 keep_ttl=3600000
            at {2ttl+500}
            1 publishes news b id=y
            1 publishes news a id=x
            1 publishes news b id=x
            at {4ttl+500}
            1 publishes news b id=y
            1 publishes news a id=x
            1 hears completions",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:1, duplicate 4, stored 5 e0:2, stored 6 e0:1",
    },
    Script {
        claim: "an id is remembered for its time where its publication is not kept any more, and not for ever",
        steps: "1 attaches
            1 publishes news a id=x keep=1 keep_ttl=3600000
            1 publishes news b id=y
            at {ttl-1}
            1 publishes news a id=x
            at {2ttl+500}
            1 publishes news c id=z
            at {4ttl+500}
            1 publishes news d id=w
            1 publishes news a id=x
            1 hears completions",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:1, stored 4 e0:3, stored 5 e0:4, stored 6 e0:5",
    },
    Script {
        claim: "a room's memory for ids that is full forgets the oldest early and says so",
        steps: "1 attaches
            1 publishes news hi keep=99 repeat=8
            1 hears completions
            1 publishes news hi repeat=2
            1 publishes news other id=n0001
            1 publishes news hi repeat=7
            1 publishes news other id=n0009
            1 publishes news hi id=n0001
            1 hears completions",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, stored 5 e0:5, stored 6 e0:6, \
                   stored 7 e0:7, stored 8 e0:8
            1: stored 9 e0:9 short, stored 10 e0:10 short, duplicate 11, stored 12 e0:11 short, \
                   stored 13 e0:12 short, stored 14 e0:13 short, stored 15 e0:14 short, stored 16 e0:15 short, \
                   stored 17 e0:16 short, stored 18 e0:17 short, duplicate 19, stored 20 e0:18 short",
    },
    Script {
        claim: "a full feed refuses before anything is stored",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 hears
            2 hears
            1 publishes fill fill bytes={fill} repeat={half}
            1 hears completions
            1 publishes fill fill bytes={fill} repeat={half}
            1 hears completions
            1 publishes news one-more id=x keep=9
            1 heads news
            1 hears
            2 hears count
            1 publishes news at-last id=x
            1 hears
            2 hears",
        expected: "1: subscribed news
            2: subscribed news
            1: {half} published
            1: {half} published
            1: unavailable {count+1} retry, heads e0:0
            2: {count} publications
            1: news at-last e0:1, stored {count+2} e0:1
            2: news at-last e0:1",
    },
    Script {
        claim: "what is known of a stream is lost: its epoch is renewed, its entries stay",
        steps: "1 attaches
            1 publishes news a id=x keep=9
            loses meta news
            1 heads news
            1 reads news above 0
            1 publishes news b
            1 publishes news a id=x
            1 heads news
            1 hears answers",
        expected: "1: stored 1 e0:1, heads e1:1, page e1:1 from 1: e0:1 a; whole, stored 2 e1:2, stored 3 e0:1, heads e1:2",
    },
    Script {
        claim: "the entries of a stream are lost: its epoch is renewed, its offsets go on",
        steps: "1 attaches
            1 publishes news a keep=9
            loses stream news
            1 reads news above 0
            1 publishes news b
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, page e1:1 from 2: whole, stored 2 e1:2, page e1:2 from 2: e1:2 b; whole",
    },
    Script {
        claim: "entries that are lost after they expired renew nothing",
        steps: "1 attaches
            1 publishes news a keep=9 keep_ttl=400
            at 700
            loses stream news
            1 heads news
            1 publishes news b
            1 hears answers",
        expected: "1: stored 1 e0:1, heads e0:1, stored 2 e0:2",
    },
    Script {
        claim: "a publication itself finds that something was lost",
        steps: "1 attaches
            1 publishes news a keep=9
            loses meta news
            1 publishes news b
            loses stream news
            1 publishes news c
            promotes
            1 publishes news d
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e1:2, stored 3 e2:3, stored 4 e3:4, \
                   page e3:4 from 3: e2:3 c; e3:4 d; whole",
    },
    Script {
        claim: "everything is lost: streams begin anew, and repeats are stored again",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a id=x keep=9
            1 publishes news b
            1 hears
            loses everything
            1 heads news
            1 publishes news a id=x
            1 hears",
        expected: "1: subscribed news, news a e0:1, stored 1 e0:1, news b e0:2, stored 2 e0:2
            1: heads e1:0, news a e1:1, stored 3 e1:1",
    },
    Script {
        claim: "lost ids are forgotten, and nothing else is",
        steps: "1 attaches
            1 publishes news a id=x keep=9
            loses ids news
            1 publishes news a id=x
            1 publishes news a id=x
            1 hears completions",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:2",
    },
    Script {
        claim: "another master renews the epoch once, and entries stay",
        steps: "1 attaches
            1 publishes news a id=x keep=9
            promotes
            1 publishes news a id=x
            1 heads news
            1 heads news
            1 publishes news b
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:1, heads e1:1, heads e1:1, stored 3 e1:2, \
                   page e1:2 from 1: e0:1 a; e1:2 b; whole",
    },
    Script {
        claim: "a beat tells what moved since the last one that was heard",
        steps: "1 attaches
            2 attaches
            2 beats
            2 hears
            1 publishes news a keep=9
            2 beats
            2 hears
            1 publishes news b
            1 publishes news c
            2 beats
            2 hears
            2 beats
            2 hears
            1 publishes news c id=x
            1 publishes news c id=x
            1 reads news above 0
            1 heads news
            2 beats
            2 hears",
        expected: "2: beat
            2: beat any
            2: beat news e0:3
            2: beat
            2: beat news e0:4",
    },
    Script {
        claim: "a beat tells of epochs that were renewed, and of everything that was lost",
        steps: "1 attaches
            2 attaches
            1 publishes news a keep=9
            2 beats
            2 hears
            promotes
            1 heads news
            2 beats
            2 hears
            loses meta news
            1 reads news above 0
            2 beats
            2 hears
            loses everything
            2 beats
            2 hears",
        expected: "2: beat any
            2: beat news e0:1
            2: beat news e1:1
            2: beat any",
    },
    Script {
        claim: "a beat tells that everything was lost where as much moved since",
        steps: "1 attaches
            2 attaches
            1 publishes news a keep=9
            2 beats
            2 hears
            loses everything
            1 publishes news b
            1 publishes news c
            2 beats
            2 hears
            1 publishes news d
            2 beats
            2 hears",
        expected: "2: beat any
            2: beat any
            2: beat news e0:3",
    },
];
