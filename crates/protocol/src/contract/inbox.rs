//! Scripts about inboxes and what a room lets go: cursors, devices, quota, losses, collapse, holes (G15, G16).
//!
//! Cursors are compared without epochs, so an ack names the epoch that was last heard of.

use super::Script;

/// The scripts that every broker passes which keeps inboxes.
pub const INBOX: &[Script] = &[
    Script {
        claim: "an inbox begins before its first publication, and acks move its cursor",
        steps: "1 attaches
            2 attaches
            1 publishes box a keep=9 inbox=user
            1 looks box
            1 publishes box b
            1 publishes box c
            1 hears answers
            2 acks box e0:2
            2 looks box
            1 looks box
            1 acks box e0:3
            1 looks box
            1 hears answers
            2 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, stored 3 e0:3
            1: inbox e0:2 of 1 to 3 lost 0, inbox e0:3 of 1 to 3 lost 0
            2: inbox e0:2 of 1 to 3 lost 0",
    },
    Script {
        claim: "what is acked above the watermark is kept, and taken in when it is next to it",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user repeat=6
            1 hears quietly
            1 heads box
            1 hears
            1 acks box e0:0 above=2,4
            1 looks box
            1 acks box e0:1
            1 looks box
            1 acks box e0:0 above=3,6
            1 looks box
            1 acks box e0:5 above=4
            1 looks box
            1 hears answers",
        expected: "1: heads e0:6
            1: inbox e0:0+2+4 of 1 to 6 lost 0, inbox e0:2+4 of 1 to 6 lost 0, inbox e0:4+6 of 1 to 6 lost 0, \
                   inbox e0:6 of 1 to 6 lost 0",
    },
    Script {
        claim: "cursors only grow, and never beyond the head",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user repeat=3
            1 hears quietly
            1 heads box
            1 hears
            1 acks box e0:2
            1 acks box e0:1
            1 looks box
            1 acks box e0:2 above=9
            1 looks box
            1 acks box e0:7
            1 looks box
            1 publishes box b
            1 looks box
            1 hears answers",
        expected: "1: heads e0:3
            1: inbox e0:2 of 1 to 3 lost 0, inbox e0:2 of 1 to 3 lost 0, inbox e0:3 of 1 to 3 lost 0, \
                   stored 4 e0:4, inbox e0:3 of 1 to 4 lost 0",
    },
    Script {
        claim: "an ack of another epoch, or in a room of which nothing is known, is void",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user
            1 publishes other a keep=9 inbox=user
            1 hears quietly
            1 heads box other
            1 hears
            1 acks box e1:1
            1 acks box e9:1
            1 looks box
            1 acks third e0:1 keep=9 inbox=user
            1 looks third
            1 hears answers",
        expected: "1: heads e0:1 e1:1
            1: inbox e0:0 of 1 to 1 lost 0, inbox e2:0 of 1 to 0 lost 0",
    },
    Script {
        claim: "as many acked numbers are kept above a watermark as may be: the lowest",
        steps: "1 attaches
            1 publishes box a keep=999 inbox=user repeat=520
            1 hears quietly
            1 heads box
            1 hears
            1 acks box e0:0 above=3..513/2
            1 looks box
            1 acks box e0:0 above=515
            1 looks box
            1 acks box e0:2 above=517
            1 looks box
            1 hears answers",
        expected: "1: heads e0:520
            1: inbox e0:0+256 from 3 to 513 of 1 to 520 lost 0, inbox e0:0+256 from 3 to 513 of 1 to 520 lost 0, \
                   inbox e0:3+256 from 5 to 517 of 1 to 520 lost 0",
    },
    Script {
        claim: "each device has its own cursor, and a new one begins at the furthest",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=device repeat=3
            1 hears quietly
            1 heads box
            1 hears
            1 looks box device=a
            1 acks box e0:2 device=a
            1 looks box device=b
            1 acks box e0:3 device=b
            1 looks box device=a
            1 looks box device=b
            1 acks box e0:0 device=c
            1 looks box device=c
            1 looks box
            1 hears answers",
        expected: "1: heads e0:3
            1: inbox e0:0 of 1 to 3 lost 0, inbox e0:2 of 1 to 3 lost 0, inbox e0:2 of 1 to 3 lost 0, \
                   inbox e0:3 of 1 to 3 lost 0, inbox e0:3 of 1 to 3 lost 0, inbox e0:3 of 1 to 3 lost 0",
    },
    Script {
        claim: "a device that looked is remembered: what others ack later is not acked by it",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=device repeat=2
            1 looks box device=a
            1 looks box device=b
            1 hears answers
            1 acks box e0:2 device=a
            1 looks box device=b
            1 hears",
        expected: "1: stored 1 e0:1, stored 2 e0:2, inbox e0:0 of 1 to 2 lost 0, inbox e0:0 of 1 to 2 lost 0
            1: inbox e0:0 of 1 to 2 lost 0",
    },
    Script {
        claim: "as many devices are remembered as may be, and not one more: the one that was idle longest goes",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=device repeat=2
            1 looks box
            1 looks box device=d02
            at 300
            1 looks box device=d01
            1 looks box device=d03
            1 looks box device=d04
            1 looks box device=d05
            1 looks box device=d06
            1 looks box device=d07
            1 looks box device=d08
            1 looks box device=d09
            1 looks box device=d10
            1 looks box device=d11
            1 looks box device=d12
            1 looks box device=d13
            1 looks box device=d14
            1 looks box device=d15
            1 looks box device=d16
            1 hears quietly
            1 heads box
            1 hears
            at 600
            1 acks box e0:1 device=d16
            1 acks box e0:0 device=d02
            at 900
            1 acks box e0:0 device=d01
            1 acks box e0:0 device=d03
            1 acks box e0:0 device=d04
            1 acks box e0:0 device=d05
            1 acks box e0:0 device=d06
            1 acks box e0:0 device=d07
            1 acks box e0:0 device=d08
            1 acks box e0:0 device=d09
            1 acks box e0:0 device=d10
            1 acks box e0:0 device=d11
            1 acks box e0:0 device=d12
            1 acks box e0:0 device=d13
            1 acks box e0:0 device=d14
            1 acks box e0:0 device=d15
            1 acks box e0:2 device=d16
            at 1200
            1 looks box device=d17
            1 looks box device=d01
            1 looks box device=d15
            1 looks box
            1 looks box device=d02
            1 hears answers",
        expected: "1: heads e0:2
            1: inbox e0:2 of 1 to 2 lost 0, inbox e0:0 of 1 to 2 lost 0, inbox e0:0 of 1 to 2 lost 0, \
                   inbox e0:0 of 1 to 2 lost 0, inbox e0:2 of 1 to 2 lost 0",
    },
    Script {
        claim: "an inbox keeps as many as its size says: the oldest goes, and who has not acked it has lost it",
        steps: "1 attaches
            1 publishes box a keep=3 inbox=device
            1 looks box device=a
            1 looks box device=b
            1 publishes box b
            1 publishes box c
            1 hears answers
            1 acks box e0:1 device=b
            1 looks box device=a
            1 publishes box d
            1 looks box device=a
            1 looks box device=b
            1 acks box e0:1 above=3 device=b
            1 publishes box e repeat=2
            1 looks box device=a
            1 looks box device=b
            1 looks box device=new
            1 reads box above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, stored 3 e0:3
            1: inbox e0:0 of 1 to 3 lost 0, stored 4 e0:4, inbox e0:0 of 2 to 4 lost 1, inbox e0:1 of 2 to 4 lost 0, \
                   stored 5 e0:5, stored 6 e0:6, inbox e0:0 of 4 to 6 lost 3, inbox e0:1+3 of 4 to 6 lost 1, \
                   inbox e0:1 of 4 to 6 lost 0, page e0:6 from 4: e0:4 d; e0:5 e; e0:6 e; whole",
    },
    Script {
        claim: "a cursor that begins where there is none has lost all that went but what newer ones took the place of",
        steps: "1 attaches
            1 publishes box a keep=3 keep_ttl=1000 inbox=device
            1 publishes box b collapse=k
            1 publishes box c collapse=k
            1 publishes box d low
            1 publishes box e repeat=2
            1 looks box device=a
            1 looks box device=b
            1 hears answers
            at 2200
            loses cursors box
            1 looks box device=b
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, stored 5 e0:5, stored 6 e0:6, \
                   inbox e0:0 of 3 to 6 lost 2, inbox e0:0 of 3 to 6 lost 0
            1: inbox e0:0 of 7 to 6 lost 5",
    },
    Script {
        claim: "what a device was told of is lost no more, said once or twice, and never more than was lost",
        steps: "1 attaches
            1 publishes box a keep=1 inbox=user
            1 looks box
            1 publishes box b repeat=3
            1 looks box
            1 hears answers
            1 acks box e0:0 told=2
            1 acks box e0:0 told=2
            1 acks box e0:0 told=1
            1 looks box
            1 acks box e0:0 told=9
            1 looks box
            1 publishes box c
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, \
                   inbox e0:0 of 4 to 4 lost 3
            1: inbox e0:0 of 4 to 4 lost 1, inbox e0:0 of 4 to 4 lost 0, stored 5 e0:5, inbox e0:0 of 5 to 5 lost 1",
    },
    Script {
        claim: "what a device was told of counts in any epoch, though what it acked in another is void",
        steps: "1 attaches
            1 publishes box a keep=1 inbox=user
            1 publishes other a keep=1 inbox=user
            1 looks box
            1 publishes box b repeat=2
            1 hears answers
            1 acks box e1:3 told=1
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e1:1, inbox e0:0 of 1 to 1 lost 0, stored 3 e0:2, stored 4 e0:3
            1: inbox e0:0 of 3 to 3 lost 1",
    },
    Script {
        claim: "what a device was told of by a cursor that is lost does not count for the one after it",
        steps: "1 attaches
            1 publishes box a keep=1 inbox=user
            1 publishes box b repeat=2
            1 looks box
            1 hears answers
            loses cursors box
            1 acks box e0:0 told=2
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, inbox e0:0 of 3 to 3 lost 2
            1: inbox e0:0 of 3 to 3 lost 2",
    },
    Script {
        claim: "of too many the oldest of low priority goes first, and leaves a hole",
        steps: "1 attaches
            1 publishes box a keep=3 inbox=user
            1 looks box
            1 publishes box b low
            1 publishes box c low
            1 publishes box d
            1 reads box above 0
            1 looks box
            1 hears answers
            1 publishes box e
            1 reads box above 0
            1 reads box above 1 limit=1
            1 publishes box f
            1 looks box
            1 reads box above 0
            1 heads box
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, \
                   page e0:4 from 1: e0:1 a; 2 removed; e0:3 c; e0:4 d; whole, inbox e0:0 of 1 to 4 lost 1
            1: stored 5 e0:5, page e0:5 from 1: e0:1 a; 2 removed; 3 removed; e0:4 d; e0:5 e; whole, \
                   page e0:5 from 1: 2 removed; more, stored 6 e0:6, inbox e0:0 of 4 to 6 lost 3, \
                   page e0:6 from 4: e0:4 d; e0:5 e; e0:6 f; whole, heads e0:6",
    },
    Script {
        claim: "the newest itself goes if only it is of low priority: members get it, and its repeat is known",
        steps: "1 attaches
            1 subscribes box
            1 publishes box a keep=2 inbox=user
            1 publishes box b
            1 hears
            1 looks box
            1 publishes box c id=x low
            1 hears
            1 reads box above 0
            1 publishes box c id=x low
            1 publishes box d
            1 reads box above 0
            1 looks box
            1 hears",
        expected: "1: subscribed box, box a e0:1, stored 1 e0:1, box b e0:2, stored 2 e0:2
            1: inbox e0:0 of 1 to 2 lost 0, box c e0:3, stored 3 e0:3
            1: page e0:3 from 1: e0:1 a; e0:2 b; 3 removed; whole, stored 4 e0:3, box d e0:4, stored 5 e0:4, \
                   page e0:4 from 2: e0:2 b; 3 removed; e0:4 d; whole, inbox e0:0 of 2 to 4 lost 2",
    },
    Script {
        claim: "only among the oldest 64 is one of low priority looked for",
        steps: "1 attaches
            1 publishes box a keep=65 inbox=user repeat=64
            1 publishes box b low
            1 hears quietly
            1 publishes box c
            1 hears quietly
            1 reads box above 0 limit=1
            1 publishes box d
            1 reads box above 0 limit=1
            1 reads box above 64 limit=2
            1 hears answers",
        expected: "1: page e0:66 from 2: e0:2 a; more, stored 67 e0:67 short, page e0:67 from 2: e0:2 a; more, \
                   page e0:67 from 2: 65 removed; e0:66 c; more",
    },
    Script {
        claim: "an inbox keeps as many bytes as its bound says: as many go as must, the newest too if need be",
        steps: "1 attaches
            1 publishes box a keep=9 keep_bytes={two} inbox=user bytes=9
            1 looks box
            1 publishes box b bytes=9
            1 looks box
            1 publishes box c bytes=9 low
            1 looks box
            1 publishes box d bytes=9
            1 looks box
            1 publishes box e bytes=10
            1 looks box
            1 reads box above 0
            1 publishes box f keep=9 keep_bytes=9 inbox=user bytes=10
            1 looks box
            1 reads box above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, inbox e0:0 of 1 to 2 lost 0, \
                   stored 3 e0:3, inbox e0:0 of 1 to 3 lost 1, stored 4 e0:4, inbox e0:0 of 2 to 4 lost 2, \
                   stored 5 e0:5, inbox e0:0 of 5 to 5 lost 4, page e0:5 from 5: e0:5 e.........; whole, \
                   stored 6 e0:6, inbox e0:0 of 7 to 6 lost 6, page e0:6 from 7: whole",
    },
    Script {
        claim: "holes are bounded: an inbox spans twice as many offsets as it keeps",
        steps: "1 attaches
            1 publishes box a keep=2 inbox=user
            1 publishes box b
            1 looks box
            1 publishes box c low
            1 publishes box d low
            1 looks box
            1 reads box above 0
            1 publishes box e low
            1 looks box
            1 reads box above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, inbox e0:0 of 1 to 2 lost 0, stored 3 e0:3, stored 4 e0:4, \
                   inbox e0:0 of 1 to 4 lost 2, page e0:4 from 1: e0:1 a; e0:2 b; 3 removed; 4 removed; whole, \
                   stored 5 e0:5, inbox e0:0 of 2 to 5 lost 3, \
                   page e0:5 from 2: e0:2 b; 3 removed; 4 removed; e0:5 e; whole",
    },
    Script {
        claim: "what is past its time is lost to whoever has not acked it",
        steps: "1 attaches
            1 publishes box a keep=9 keep_ttl=1000 inbox=device
            1 looks box device=a
            1 looks box device=b
            at 400
            1 publishes box b
            1 publishes box c
            1 looks box device=a
            1 hears answers
            1 acks box e0:1 device=b
            at 1150
            1 looks box device=a
            1 looks box device=b
            1 acks box e0:2 device=b
            at 2200
            1 looks box device=a
            1 looks box device=b
            1 publishes box d
            1 looks box device=a
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, \
                   stored 3 e0:3, inbox e0:0 of 1 to 3 lost 0
            1: inbox e0:0 of 2 to 3 lost 1, inbox e0:1 of 2 to 3 lost 0, inbox e0:0 of 4 to 3 lost 3, \
                   inbox e0:2 of 4 to 3 lost 1, stored 4 e0:4, inbox e0:0 of 4 to 4 lost 3",
    },
    Script {
        claim: "a publication takes the place of the older one under its key, in any room that keeps them",
        steps: "1 attaches
            1 publishes news a keep=9 collapse=k
            1 publishes news b
            1 publishes news c collapse=k
            1 publishes news d collapse=other
            1 reads news above 0
            1 publishes news e collapse=k
            1 reads news above 0
            1 heads news
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, \
                   page e0:4 from 2: e0:2 b; e0:3 c; e0:4 d; whole, stored 5 e0:5, \
                   page e0:5 from 2: e0:2 b; 3 removed; e0:4 d; e0:5 e; whole, heads e0:5",
    },
    Script {
        claim: "a repeat takes nobody's place, and one whose place was taken is known",
        steps: "1 attaches
            1 publishes news a keep=9
            1 publishes news b id=x collapse=k
            1 publishes news c id=y collapse=k
            1 publishes news b id=x collapse=k
            1 publishes news other id=x collapse=k
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:2, duplicate 5, \
                   page e0:3 from 1: e0:1 a; 2 removed; e0:3 c; whole",
    },
    Script {
        claim: "each offset of a page counts, removed or not",
        steps: "1 attaches
            1 publishes news a keep=9
            1 publishes news b collapse=k
            1 publishes news c collapse=k
            1 publishes news d collapse=k
            1 hears quietly
            1 reads news above 0 limit=4
            1 reads news above 0 limit=3
            1 reads news above 0 limit=2
            1 reads news above 1 limit=2
            1 reads news below max limit=2
            1 reads news below 4 limit=2
            1 reads news below 2
            1 hears answers",
        expected: "1: page e0:4 from 1: e0:1 a; 2 removed; 3 removed; e0:4 d; whole, \
                   page e0:4 from 1: e0:1 a; 2 removed; 3 removed; more, page e0:4 from 1: e0:1 a; 2 removed; more, \
                   page e0:4 from 1: 2 removed; 3 removed; more, page e0:4 from 1: 3 removed; e0:4 d; more, \
                   page e0:4 from 1: 2 removed; 3 removed; more, page e0:4 from 1: e0:1 a; whole",
    },
    Script {
        claim: "what was removed counts in what a room keeps as if it were there",
        steps: "1 attaches
            1 publishes news a keep=3 collapse=k
            1 publishes news b collapse=j
            1 publishes news c
            1 publishes news d collapse=j
            1 reads news above 0
            1 publishes news e collapse=j
            1 publishes news f collapse=k
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, \
                   page e0:4 from 3: e0:3 c; e0:4 d; whole, stored 5 e0:5, stored 6 e0:6, \
                   page e0:6 from 5: e0:5 e; e0:6 f; whole",
    },
    Script {
        claim: "nobody loses what was replaced, and it makes room before anything else goes",
        steps: "1 attaches
            1 publishes box a keep=3 inbox=user collapse=k
            1 looks box
            1 publishes box b
            1 publishes box c
            1 publishes box d collapse=k
            1 looks box
            1 publishes box e collapse=k
            1 looks box
            1 reads box above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, \
                   inbox e0:0 of 2 to 4 lost 0, stored 5 e0:5, inbox e0:0 of 2 to 5 lost 0, \
                   page e0:5 from 2: e0:2 b; e0:3 c; 4 removed; e0:5 e; whole",
    },
    Script {
        claim: "what was past its time before it was replaced is lost",
        steps: "1 attaches
            1 publishes box a keep=9 keep_ttl=2000 inbox=user collapse=k
            1 looks box
            at 2150
            1 publishes box b collapse=k
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, inbox e0:0 of 1 to 1 lost 0, stored 2 e0:2, inbox e0:0 of 2 to 2 lost 1",
    },
    Script {
        claim: "a key is forgotten with its entry",
        steps: "1 attaches
            1 publishes box a keep=2 inbox=user collapse=k
            1 publishes box b
            1 publishes box c
            1 publishes box d collapse=k
            1 reads box above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, stored 4 e0:4, page e0:4 from 3: e0:3 c; e0:4 d; whole",
    },
    Script {
        claim: "cursors outlive an epoch, and what was acked stays acked",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user repeat=3
            1 hears completions
            1 acks box e0:2
            1 looks box
            promotes
            1 looks box
            1 hears answers
            1 acks box e0:3
            1 looks box
            1 acks box e1:3
            1 looks box
            loses meta box
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: inbox e0:2 of 1 to 3 lost 0, inbox e1:2 of 1 to 3 lost 0
            1: inbox e1:2 of 1 to 3 lost 0, inbox e1:3 of 1 to 3 lost 0, inbox e2:3 of 1 to 3 lost 0",
    },
    Script {
        claim: "a cursor above the head is the head: what comes next is not acked",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user repeat=3
            1 hears completions
            1 acks box e0:3
            1 looks box
            loses meta box
            loses stream box
            1 publishes box b
            1 looks box
            1 publishes box c repeat=3
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3
            1: inbox e0:3 of 1 to 3 lost 0, stored 4 e1:1, inbox e1:0 of 1 to 1 lost 0, stored 5 e1:2, stored 6 e1:3, stored 7 e1:4, \
                   inbox e1:0 of 1 to 4 lost 0",
    },
    Script {
        claim: "cursors that are lost begin anew, and so do all with everything",
        steps: "1 attaches
            1 publishes box a keep=9 inbox=user repeat=2
            1 hears completions
            1 acks box e0:2
            1 looks box
            loses cursors box
            1 looks box
            1 acks box e0:1
            1 looks box
            loses everything
            1 looks box
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2
            1: inbox e0:2 of 1 to 2 lost 0, inbox e0:0 of 1 to 2 lost 0, inbox e0:1 of 1 to 2 lost 0, \
                   inbox e1:0 of 1 to 0 lost 0",
    },
    Script {
        claim: "a stream with holes is whole, and one that lost more renews its epoch",
        steps: "1 attaches
            1 publishes news a keep=9
            1 publishes news b collapse=k
            1 publishes news c collapse=k
            1 heads news
            1 publishes news d
            1 reads news above 0
            loses stream news
            1 reads news above 0
            1 publishes news e collapse=k
            1 reads news above 0
            1 hears answers",
        expected: "1: stored 1 e0:1, stored 2 e0:2, stored 3 e0:3, heads e0:3, stored 4 e0:4, \
                   page e0:4 from 1: e0:1 a; 2 removed; e0:3 c; e0:4 d; whole, page e1:4 from 5: whole, \
                   stored 5 e1:5, page e1:5 from 5: e1:5 e; whole",
    },
];
