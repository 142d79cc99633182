//! Scripts about rooms that became occupied and vacated, and who is given to tell it.

use super::Script;

/// What holds for events of rooms that became occupied and vacated.
pub const OCCUPANCY: &[Script] = &[
    Script {
        claim: "what rooms became is given in order, and behind it only what came since",
        steps: "1 attaches
            1 follows news
            1 sets news 1 +ann/s1
            1 lives
            1 lives reads
            1 hears answers
            1 follows news
            1 sets news 2 -ann/s1
            1 hears answers
            1 follows news told=1
            1 hears answers
            1 follows news
            1 sets news 3 +bob/s2
            1 hears answers
            1 follows news told=2
            1 hears answers
            1 follows news told=all
            1 follows news
            1 lives reads
            1 hears answers",
        expected: "1: ungiven, done news +ann e0:1 of 1, held, held unread
            1: given anew occupied news e0:1, done news -ann e0:2 of 0
            1: given vacated news e0:2
            1: given, done news +bob e0:3 of 1
            1: given occupied news e0:3
            1: ungiven, ungiven, held",
    },
    Script {
        claim: "a partition has one reader at a time, and the next one when it has told all",
        steps: "1 attaches
            2 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 follows news
            2 follows news
            2 lives reads
            1 hears answers
            2 hears answers
            1 follows news told=1
            2 follows news
            1 hears answers
            2 hears answers
            1 follows news told=1
            1 sets news 3 +ann/s1
            2 lives reads
            2 follows news
            1 follows news
            1 hears answers
            2 hears answers",
        expected: "1: done news +ann e0:1 of 1, done news -ann e0:2 of 0, \
                   given anew occupied news e0:1 vacated news e0:2
            2: ungiven, held
            1: given
            2: ungiven
            1: ungiven, done news +ann e0:3 of 1, ungiven
            2: held unread, given anew occupied news e0:3",
    },
    Script {
        claim: "what a node does not say to have told is given again, to whoever asks when its time is over",
        steps: "1 attaches
            2 attaches
            1 lives
            2 lives
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 sets news 3 +ann/s1
            1 follows news
            1 hears quietly
            2 hears quietly
            at 3000
            1 lives
            1 follows news told=1
            2 follows news
            1 hears answers
            2 hears answers
            at 5600
            2 lives reads
            2 follows news
            2 hears answers
            at 9600
            2 lives reads
            2 follows news
            1 follows news told=1
            2 hears answers
            1 hears answers
            2 follows news told=1
            2 hears answers",
        expected: "1: held, given
            2: ungiven
            2: held, ungiven
            2: held unread, given anew vacated news e0:2 occupied news e0:3
            1: ungiven
            2: given",
    },
    Script {
        claim: "whoever comes too late, and was not followed by another, goes on",
        steps: "1 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 follows news
            1 hears quietly
            at 6000
            1 sets news 3 +ann/s1
            1 follows news told=1
            1 hears answers",
        expected: "1: done news +ann e0:3 of 1, given occupied news e0:3",
    },
    Script {
        claim: "an answer that was lost is given again from the first that was not told",
        steps: "1 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 follows news forgets
            1 follows news forgets
            1 hears answers
            1 follows news told=1 forgets
            1 hears answers",
        expected: "1: done news +ann e0:1 of 1, done news -ann e0:2 of 0, \
                   given anew occupied news e0:1 vacated news e0:2, given anew occupied news e0:1 vacated news e0:2
            1: given anew vacated news e0:2",
    },
    Script {
        claim: "no more is given than a node may have, and it may give the partition back",
        steps: "1 attaches
            2 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 sets news 3 +ann/s1
            1 follows news limit=2
            1 hears answers
            1 follows news limit=2
            1 hears answers
            1 follows news told=1 limit=2
            1 hears answers
            2 follows news
            1 follows news told=1 limit=0
            2 lives reads
            2 follows news
            1 hears answers
            2 hears answers",
        expected: "1: done news +ann e0:1 of 1, done news -ann e0:2 of 0, done news +ann e0:3 of 1, \
                   given anew occupied news e0:1 vacated news e0:2
            1: given
            1: given occupied news e0:3
            1: ungiven
            2: ungiven, held unread, given anew occupied news e0:3",
    },
    Script {
        claim: "what is lost with everything is told by nobody, and what comes then is given anew",
        steps: "1 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 follows news
            1 hears answers
            loses everything
            1 follows news told=1
            1 sets news 3 +ann/s1
            1 follows news
            1 hears answers",
        expected: "1: done news +ann e0:1 of 1, done news -ann e0:2 of 0, \
                   given anew occupied news e0:1 vacated news e0:2
            1: ungiven, done news +ann e1:1 of 1, given anew occupied news e1:1",
    },
];
