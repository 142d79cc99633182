//! Scripts about receipts: how much of a room its users have got and read, and since when (G17).

use super::Script;

/// The scripts that every broker passes which keeps receipts.
pub const RECEIPTS: &[Script] = &[
    Script {
        claim: "a mark covers all below it, and a repeat is answered with the first time and told to nobody",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            2 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/d3
            2 hears
            1 marks news e0 ann/d3
            1 marks news e0 ann/d2
            1 marks news e0 ann/d5
            2 marks news e0 ann/d4
            1 hears
            2 hears",
        expected: "1: heads e0:5
            2: news receipts e0:1 ann d3@t0
            1: news receipts e0:1 ann d3@t0, marked of e0:5 3@t0, marked of e0:5 3@t0, marked of e0:5 2@t0, \
                   news receipts e0:2 ann d5@t1, marked of e0:5 5@t1
            2: news receipts e0:2 ann d5@t1, marked of e0:5 4@t1",
    },
    Script {
        claim: "what is read is delivered, since the time at which either came first",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/d2
            1 marks news e0 ann/r4
            1 hears
            1 marks news e0 ann/d4
            1 marks news e0 ann/r2
            1 marks news e0 ann/r4
            1 marks news e0 ann/d5
            1 hears
            1 receipts news of=2
            1 receipts news of=5
            1 hears",
        expected: "1: heads e0:5
            1: news receipts e0:1 ann d2@t0, marked of e0:5 2@t0, news receipts e0:2 ann d4@t1 r4@t1, marked of e0:5 4@t1
            1: marked of e0:5 4@t1, marked of e0:5 2@t1, marked of e0:5 4@t1, news receipts e0:3 ann d5@t2 r4@t1, \
                   marked of e0:5 5@t2
            1: receipts of e0:5 version 3 ann d2@t0 r2@t1, receipts of e0:5 version 3 ann d5@t2",
    },
    Script {
        claim: "a mark above the head counts as the head, and of nothing there is no mark",
        steps: "1 attaches
            1 subscribes news
            1 heads news
            1 hears
            1 marks news e0 ann/d7
            1 publishes news a keep=9 repeat=3
            1 hears
            1 marks news e0 ann/r0
            1 marks news e0 ann/r9
            1 publishes news b
            1 hears
            1 receipts news
            1 receipts news of=3
            1 receipts news of=4
            1 receipts news of=0
            1 hears",
        expected: "1: subscribed news, heads e0:0
            1: marked of e0:0 0@never, news a e0:1, stored 1 e0:1, news a e0:2, stored 2 e0:2, news a e0:3, stored 3 e0:3
            1: marked of e0:3 0@never, news receipts e0:1 ann d3@t0 r3@t0, marked of e0:3 3@t0, news b e0:4, stored 4 e0:4
            1: receipts of e0:4 version 1 ann d3@t0 r3@t0, receipts of e0:4 version 1 ann d3@t0 r3@t0, \
                   receipts of e0:4 version 1, receipts of e0:4 version 1",
    },
    Script {
        claim: "one step of several users has one time and one version, and tells of those who rose",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 bob/d2 ann/d3 ann/r1
            1 marks news e0 cid/r5 bob/d2 ann/r3 ann/d3
            1 hears",
        expected: "1: heads e0:5
            1: news receipts e0:1 ann d3@t0 r1@t0 bob d2@t0, marked of e0:5 2@t0 3@t0 1@t0, \
                   news receipts e0:2 ann d3@t0 r3@t1 cid d5@t1 r5@t1, marked of e0:5 5@t1 2@t0 3@t1 3@t0",
    },
    Script {
        claim: "marks of another epoch change nothing, and those of before stay when a room begins anew",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e9 ann/d3
            1 marks news e0 ann/d3
            1 hears
            promotes
            1 marks news e0 ann/d5
            1 receipts news
            1 hears
            1 marks news e1 ann/d2
            1 marks news e1 ann/d5
            1 hears",
        expected: "1: heads e0:5
            1: marked nothing but of e0:5, news receipts e0:1 ann d3@t0, marked of e0:5 3@t0
            1: marked nothing but of e1:5, receipts of e1:5 version 1 ann d3@t0
            1: marked of e1:5 2@t0, news receipts e1:2 ann d5@t1, marked of e1:5 5@t1",
    },
    Script {
        claim: "rooms are apart",
        steps: "1 attaches
            1 publishes news a keep=9 repeat=5
            1 publishes talk a keep=9
            1 hears quietly
            1 heads news talk
            1 hears
            1 marks news e0 ann/d3
            1 marks talk e1 ann/r1
            1 receipts news
            1 receipts talk
            1 receipts other
            1 hears answers",
        expected: "1: heads e0:5 e1:1
            1: marked of e0:5 3@t0, marked of e1:1 1@t1, receipts of e0:5 version 1 ann d3@t0, \
                   receipts of e1:1 version 1 ann d1@t1 r1@t1, receipts of e2:0 version 0",
    },
    Script {
        claim: "pages go by the bytes of names, and those who have not marked a publication count in them",
        steps: "1 attaches
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 b/d2 Z/d4 a/r1 é/d5
            1 receipts news limit=2
            1 receipts news after=a limit=2
            1 receipts news after=b limit=1
            1 receipts news after=aa
            1 receipts news after=é
            1 receipts news of=4 limit=3
            1 receipts news of=2 after=Z limit=1
            1 hears answers",
        expected: "1: heads e0:5
            1: marked of e0:5 2@t0 4@t0 1@t0 5@t0, receipts of e0:5 version 1 Z d4@t0 a d1@t0 r1@t0 next a, \
                   receipts of e0:5 version 1 b d2@t0 é d5@t0, receipts of e0:5 version 1 é d5@t0, \
                   receipts of e0:5 version 1 b d2@t0 é d5@t0, receipts of e0:5 version 1, \
                   receipts of e0:5 version 1 Z d4@t0 next b, receipts of e0:5 version 1 next a",
    },
    Script {
        claim: "each publication has the time of the first mark that covers it",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a keep=9 repeat=9
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/r2
            1 marks news e0 ann/r5
            1 marks news e0 ann/r9
            1 hears answers
            1 receipts news of=1
            1 receipts news of=2
            1 receipts news of=3
            1 receipts news of=5
            1 receipts news of=6
            1 receipts news of=9
            1 hears",
        expected: "1: heads e0:9
            1: marked of e0:9 2@t0, marked of e0:9 5@t1, marked of e0:9 9@t2
            1: receipts of e0:9 version 3 ann d1@t0 r1@t0, receipts of e0:9 version 3 ann d2@t0 r2@t0, \
                   receipts of e0:9 version 3 ann d3@t1 r3@t1, receipts of e0:9 version 3 ann d5@t1 r5@t1, \
                   receipts of e0:9 version 3 ann d6@t2 r6@t2, receipts of e0:9 version 3 ann d9@t2 r9@t2",
    },
    Script {
        claim: "beyond their number the newest step stays, and older ones are merged",
        steps: "1 attaches
            1 publishes news a keep=400 repeat=300
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/d1..299
            1 hears quietly
            1 marks news e0 ann/d300
            1 marks news e0 ann/d300
            1 receipts news
            1 receipts news of=300
            1 hears answers",
        expected: "1: heads e0:300
            1: marked of e0:300 300@t0, marked of e0:300 300@t0, receipts of e0:300 version 300 ann d300@t0, \
                   receipts of e0:300 version 300 ann d300@t0",
    },
    Script {
        claim: "a room that has receipts of as many users as it may takes no others, and goes on with those",
        steps: "1 attaches
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 u*9999/d1
            1 hears quietly
            1 marks news e0 v/d2 w/d2
            1 marks news e0 v/d2
            1 marks news e0 w/d2
            1 marks news e0 w/d0
            1 marks news e0 w/d2 u00000/d5
            1 receipts news of=5
            1 marks news e0 u00000/d5 v/r2
            1 hears answers",
        expected: "1: heads e0:5
            1: marked full, marked of e0:5 2@t0, marked full, marked of e0:5 0@never, marked full, \
                   receipts of e0:5 version 210 next u00999, marked of e0:5 5@t1 2@t1",
    },
    Script {
        claim: "receipts that are lost begin anew",
        steps: "1 attaches
            1 subscribes news
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/r3
            1 marks news e0 bob/r3
            1 hears answers
            loses receipts news
            1 receipts news
            1 marks news e0 bob/d2
            1 hears",
        expected: "1: heads e0:5
            1: marked of e0:5 3@t0, marked of e0:5 3@t1
            1: receipts of e0:5 version 0, news receipts e0:1 bob d2@t2, marked of e0:5 2@t2",
    },
    Script {
        claim: "a room of which nothing is left has no receipts",
        steps: "1 attaches
            1 publishes news a keep=9 repeat=5
            1 hears quietly
            1 heads news
            1 hears
            1 marks news e0 ann/r3
            1 hears answers
            loses stream news
            1 receipts news
            1 hears answers
            loses meta news
            1 receipts news
            1 publishes news a repeat=5
            1 receipts news
            1 hears answers",
        expected: "1: heads e0:5
            1: marked of e0:5 3@t0
            1: receipts of e1:5 version 1 ann d3@t0 r3@t0
            1: receipts of e2:0 version 1, stored 6 e2:1, stored 7 e2:2, stored 8 e2:3, stored 9 e2:4, stored 10 e2:5, \
                   receipts of e2:5 version 1",
    },
];
