//! Scripts about who is present: users and their sessions, grace, versions, rosters, leases (G18, G19).
//!
//! What is due is done by a beat, so each script lets somebody beat before it is asked what was heard. A node whose lease
//! is to end is not asked before it has ended: whoever is asked may beat.

use super::Script;

/// The scripts that every broker passes which knows who is present.
pub const PRESENCE: &[Script] = &[
    Script {
        claim: "a user joins with the first session and leaves with the last, on whatever nodes",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 sets news 1 +ann/s1
            2 sets news 1 +ann/s2
            1 sets news 2 -ann/s1
            2 sets news 2 -ann/s2
            1 hears
            2 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, news -ann e0:2 of 0
            2: subscribed news, news +ann e0:1 of 1, done, news -ann e0:2 of 0, done news -ann e0:2 of 0",
    },
    Script {
        claim: "what one step changes is one diff under one version",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +bob/s1 +ann/s2 +ann/s3
            1 sets news 2 -bob/s1 +cid/s4
            1 sets news 3 -ann/s2
            1 sets news 4 +ann/s5
            1 hears",
        expected: "1: subscribed news, news +ann +bob e0:1 of 2, done news +ann +bob e0:1 of 2, \
                   news +cid -bob e0:2 of 2, done news +cid -bob e0:2 of 2, done, done",
    },
    Script {
        claim: "who goes and comes in one step has done neither",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1 +ann/s2
            1 sets news 3 +ann/s3 -ann/s2
            1 sets news 4 -ann/s3
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, done, \
                   news -ann e0:2 of 0, done news -ann e0:2 of 0",
    },
    Script {
        claim: "rooms are apart, and so are their versions",
        steps: "1 attaches
            1 sets news 1 +ann/s1
            1 sets talk 1 +ann/s1
            1 sets news 2 -ann/s1
            1 asks talk
            1 asks news
            1 hears answers",
        expected: "1: done news +ann e0:1 of 1, done talk +ann e1:1 of 1, done news -ann e0:2 of 0, \
                   roster ann of 1 e1:1, roster of 0 e0:2",
    },
    Script {
        claim: "a session that is not there does not leave",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 -ann/s1
            1 sets news 2 +ann/s1
            1 sets news 3 -ann/s2
            1 asks news
            1 hears",
        expected: "1: subscribed news, done, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, roster ann of 1 e0:1",
    },
    Script {
        claim: "what a former attachment of a session says is ignored",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            2 sets news 1 +ann/s1/2
            1 sets news 2 -ann/s1
            1 sets news 3 +bob/s1
            2 sets news 2 -ann/s1/2
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, done, news -ann e0:2 of 0",
    },
    Script {
        claim: "of two nodes that have a session under one generation, the one that entered it last says that it left",
        steps: "1 attaches
            2 attaches
            1 sets news 1 +ann/s1
            2 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 sets news 3 +ann/s1
            2 sets news 2 -ann/s1
            1 sets news 4 -ann/s1
            1 hears answers
            2 hears answers",
        expected: "1: done news +ann e0:1 of 1, done, done, done news -ann e0:2 of 0
            2: done, done",
    },
    Script {
        claim: "what a former life says of a session that the next one entered is ignored",
        steps: "1 attaches
            1 subscribes news
            1 lives
            1 sets news 1 +ann/s1 +bob/s2
            1 sets news 1 +ann/s1 life=2
            1 sets news 2 -ann/s1
            1 sets news 3 +ann/s1
            1 sets news 4 -bob/s2
            1 lives life=2 retired=1
            1 asks news
            1 hears",
        expected: "1: subscribed news, held, news +ann +bob e0:1 of 2, done news +ann +bob e0:1 of 2, done, done, done, \
                   news -bob e0:2 of 1, done news -bob e0:2 of 1, held, roster ann of 1 e0:2",
    },
    Script {
        claim: "who comes back within the grace has not left",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1 grace=500
            at 200
            1 lives
            1 sets news 3 +ann/s2
            at 800
            1 lives
            1 asks news
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, held, done, held, \
                   roster ann of 1 e0:1",
    },
    Script {
        claim: "who stays away is gone when the grace is over, and counts until then",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1 grace=500
            at 200
            1 lives
            1 sets news 3 +bob/s2
            1 asks news
            at 800
            1 lives
            1 asks news
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, held, \
                   news +bob e0:2 of 2, done news +bob e0:2 of 2, roster ann bob of 2 e0:2, \
                   news -ann e0:3 of 1, held, roster bob of 1 e0:3",
    },
    Script {
        claim: "each has a grace of its own, and what is over together is one diff",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1 +bob/s2 +cid/s3
            1 sets news 2 -ann/s1 grace=400
            1 sets news 3 -bob/s2 grace=300
            1 sets news 4 -cid/s3 grace=1000
            at 700
            1 lives
            at 1300
            1 lives
            1 hears",
        expected: "1: subscribed news, news +ann +bob +cid e0:1 of 3, done news +ann +bob +cid e0:1 of 3, done, done, \
                   done, news -ann -bob e0:2 of 1, held, news -cid e0:3 of 0, held",
    },
    Script {
        claim: "who comes back and goes again has the whole grace again",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1 grace=500
            at 300
            1 sets news 3 +ann/s1
            1 sets news 4 -ann/s1 grace=800
            at 700
            1 lives
            at 1400
            1 lives
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, done, done, held, \
                   news -ann e0:2 of 0, held",
    },
    Script {
        claim: "a step that is repeated gets its first answer and changes nothing",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1
            1 sets news 2 -ann/s1
            1 sets news 2 +bob/s2
            1 asks news
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done news +ann e0:1 of 1, \
                   news -ann e0:2 of 0, done news -ann e0:2 of 0, done news -ann e0:2 of 0, \
                   done news -ann e0:2 of 0, roster of 0 e0:2",
    },
    Script {
        claim: "a step that comes behind a later one does nothing",
        steps: "1 attaches
            1 sets news 2 +ann/s1
            1 sets news 1 -ann/s1
            1 sets news 5 +bob/s2
            1 sets news 4 -bob/s2
            1 asks news
            1 hears answers",
        expected: "1: done news +ann e0:1 of 1, done, done news +bob e0:2 of 2, done, roster ann bob of 2 e0:2",
    },
    Script {
        claim: "steps are counted for each life of each node in each room",
        steps: "1 attaches
            2 attaches
            1 sets news 9 +ann/s1
            2 sets news 1 +bob/s2
            1 sets talk 1 +ann/s1
            1 sets news 1 +cid/s3 life=2
            1 hears answers
            2 hears answers",
        expected: "1: done news +ann e0:1 of 1, done talk +ann e1:1 of 1, done news +cid e0:3 of 3
            2: done news +bob e0:2 of 2",
    },
    Script {
        claim: "a roster is told page by page, by the bytes of names",
        steps: "1 attaches
            1 sets news 1 +ann/s1 +Bob/s2 +cid/s3 +über/s4 +dan/s5
            1 asks news
            1 asks news limit=2
            1 asks news limit=2 after=ann
            1 asks news limit=2 after=dan
            1 asks news limit=1 after=über
            1 asks news limit=5
            1 asks news after=b limit=1
            1 hears answers",
        expected: "1: done news +Bob +ann +cid +dan +über e0:1 of 5, roster Bob ann cid dan über of 5 e0:1, \
                   roster Bob ann of 5 e0:1 more, roster cid dan of 5 e0:1 more, roster über of 5 e0:1, \
                   roster of 5 e0:1, roster Bob ann cid dan über of 5 e0:1, roster cid of 5 e0:1 more",
    },
    Script {
        claim: "nobody is in a room of which nothing is known",
        steps: "1 attaches
            1 asks news
            1 asks news after=ann limit=1
            1 hears",
        expected: "1: roster of 0, roster of 0",
    },
    Script {
        claim: "the largest step is one diff",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +u*512
            1 sets news 2 -u*512
            1 hears",
        expected: "1: subscribed news, news +512 users e0:1 of 512, done news +512 users e0:1 of 512, \
                   news -512 users e0:2 of 0, done news -512 users e0:2 of 0",
    },
    Script {
        claim: "rooms become occupied with the first user and vacated with the last, each told once",
        steps: "1 attaches
            1 sets news 1 +ann/s1
            1 sets news 2 +bob/s2
            1 sets news 3 -bob/s2
            occupancies news
            1 sets news 4 -ann/s1 grace=300
            occupancies news
            at 600
            1 lives
            1 sets news 5 +cid/s3
            1 hears answers
            occupancies news",
        expected: "occupancies: occupied news e0:1
            occupancies: occupied news e0:1
            1: done news +ann e0:1 of 1, done news +bob e0:2 of 2, done news -bob e0:3 of 1, done, held, \
                   done news +cid e0:5 of 1
            occupancies: occupied news e0:1, vacated news e0:4, occupied news e0:5",
    },
    Script {
        claim: "what happens among agents is given to one node to tell, in order, and the next when it was told",
        steps: "1 attaches
            2 attaches
            1 sets $agents 1 +7/s1 +8/s2
            1 sets news 1 +ann/s3
            2 lives
            1 lives
            1 sets $agents 2 -7/s1 grace=300
            1 sets news 2 -ann/s3 grace=300
            1 hears answers
            2 hears answers
            at 600
            2 lives
            1 lives
            1 sets $agents 3 +9/s4
            2 lives told=e0:1
            1 lives
            1 lives told=e0:2
            2 lives told=e0:3
            1 lives
            1 hears answers
            2 hears answers",
        expected: "1: done $agents +7 +8 e0:1 of 2, done news +ann e1:1 of 1, held, done, done
            2: held $agents +7 +8 e0:1 of 2
            1: held, done $agents +9 e0:3 of 2, held, held, held
            2: held, held $agents -7 e0:2 of 1 $agents +9 e0:3 of 2, held",
    },
    Script {
        claim: "since which version somebody is there is known, whichever session comes and goes, until it leaves",
        steps: "1 attaches
            2 attaches
            1 seeks $agents 7
            1 sets $agents 1 +7/s1 +8/s2
            1 sets $agents 2 +9/s3
            2 sets $agents 1 +7/s4
            1 sets $agents 3 -7/s1 -8/s2
            2 seeks $agents 9 7 nobody 8 7
            2 sets $agents 2 -7/s4 +7/s5
            1 seeks $agents 7
            2 sets $agents 3 -7/s5 grace=300
            1 seeks $agents 7
            1 sets $agents 4 +8/s2
            at 600
            2 lives
            1 seeks $agents 7 8
            2 sets $agents 4 +7/s5
            1 seeks $agents 7 8
            1 seeks $agents
            1 hears answers
            2 hears answers",
        expected: "1: found away, done $agents +7 +8 e0:1 of 2, done $agents +9 e0:2 of 3, \
                   done $agents -8 e0:3 of 2, found since 1, found since 1, \
                   done $agents +8 e0:4 of 3, found away since 4, found since 6 since 4, found
            2: done, found since 2 since 1 away away since 1, done, done, \
                   held $agents +7 +8 e0:1 of 2 $agents +9 e0:2 of 3 $agents -8 e0:3 of 2 $agents +8 e0:4 of 3 \
                   $agents -7 e0:5 of 2, done $agents +7 e0:6 of 3",
    },
    Script {
        claim: "what a node does not say to have told is given again, to whoever beats then",
        steps: "1 attaches
            2 attaches
            1 sets $agents 1 +7/s1
            1 sets $agents 2 +8/s2
            1 lives
            2 lives
            1 hears answers
            2 hears answers
            at 2500
            1 lives
            2 lives
            at 3500
            1 lives
            2 lives told=e0:2
            1 lives
            1 hears answers
            2 hears answers",
        expected: "1: done $agents +7 e0:1 of 1, done $agents +8 e0:2 of 2, held $agents +7 e0:1 of 1 $agents +8 e0:2 of 2
            2: held
            1: held, held $agents +7 e0:1 of 1 $agents +8 e0:2 of 2, held
            2: held, held",
    },
    Script {
        claim: "as much as one node is given among agents waits for it alone, the rest for the next beat",
        steps: "1 attaches
            1 sets $agents 1 +1/s1
            1 sets $agents 2 +2/s2
            1 sets $agents 3 +3/s3
            1 sets $agents 4 +4/s4
            1 sets $agents 5 +5/s5
            1 sets $agents 6 +6/s6
            1 sets $agents 7 +7/s7
            1 sets $agents 8 +8/s8
            1 sets $agents 9 -1/s1
            1 sets $agents 10 -2/s2
            1 sets $agents 11 -3/s3
            1 sets $agents 12 -4/s4
            1 sets $agents 13 -5/s5
            1 sets $agents 14 -6/s6
            1 sets $agents 15 -7/s7
            1 sets $agents 16 -8/s8
            1 sets $agents 17 +1/s1
            1 lives
            1 hears answers
            1 lives told=e0:15
            1 lives told=e0:16
            1 lives told=e0:17
            1 hears answers",
        expected: "1: done $agents +1 e0:1 of 1, done $agents +2 e0:2 of 2, done $agents +3 e0:3 of 3, \
                   done $agents +4 e0:4 of 4, done $agents +5 e0:5 of 5, done $agents +6 e0:6 of 6, \
                   done $agents +7 e0:7 of 7, done $agents +8 e0:8 of 8, done $agents -1 e0:9 of 7, \
                   done $agents -2 e0:10 of 6, done $agents -3 e0:11 of 5, done $agents -4 e0:12 of 4, \
                   done $agents -5 e0:13 of 3, done $agents -6 e0:14 of 2, done $agents -7 e0:15 of 1, \
                   done $agents -8 e0:16 of 0, done $agents +1 e0:17 of 1, held $agents +1 e0:1 of 1 $agents +2 e0:2 of 2 \
               $agents +3 e0:3 of 3 $agents +4 e0:4 of 4 $agents +5 e0:5 of 5 $agents +6 e0:6 of 6 \
               $agents +7 e0:7 of 7 $agents +8 e0:8 of 8 $agents -1 e0:9 of 7 $agents -2 e0:10 of 6 \
               $agents -3 e0:11 of 5 $agents -4 e0:12 of 4 $agents -5 e0:13 of 3 $agents -6 e0:14 of 2 \
               $agents -7 e0:15 of 1 $agents -8 e0:16 of 0
            1: held, held $agents +1 e0:17 of 1, held",
    },
    Script {
        claim: "a life that is retired takes along what the next one has not entered",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 lives
            1 sets news 1 +ann/s1 +bob/s2 +cid/s3
            1 sets news 1 +ann/s1 life=2
            2 sets news 1 +cid/s4
            1 lives life=2 retired=1
            1 lives life=2 retired=1
            1 sets news 2 +dan/s5
            1 lives
            1 sets news 2 +dan/s5 life=2
            1 hears answers
            2 hears",
        expected: "1: held, done news +ann +bob +cid e0:1 of 3, done, held, held, reaped, lost, done news +dan e0:3 of 3
            2: subscribed news, news +ann +bob +cid e0:1 of 3, done, news -bob e0:2 of 2, news +dan e0:3 of 3",
    },
    Script {
        claim: "who does not beat is gone when its lease is over, without grace, and who is elsewhere stays",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 lives
            2 lives
            1 sets news 1 +ann/s1 +bob/s2 +cid/s4
            2 sets news 1 +bob/s3
            2 sets news 2 +cid/s4/2
            at {lease/2}
            2 lives
            at {lease}
            2 lives
            2 lives
            2 hears",
        expected: "2: subscribed news, held, news +ann +bob +cid e0:1 of 3, done, done, held, news -ann e0:2 of 2, \
                   held, held",
    },
    Script {
        claim: "a life that was reaped is never accepted again, and the next one is",
        steps: "1 attaches
            2 attaches
            1 lives
            2 lives
            1 sets news 1 +ann/s1
            1 sets news 1 +ann/s1
            at {lease/2}
            2 lives
            at {lease}
            2 lives
            1 sets news 1 +ann/s1
            1 sets news 2 +bob/s2
            1 sets talk 1 +bob/s2
            1 lives
            1 lives life=2
            1 sets news 1 +ann/s1 life=2
            1 hears answers",
        expected: "1: held, done news +ann e0:1 of 1, done news +ann e0:1 of 1, reaped, reaped, reaped, lost, held, \
                   done news +ann e0:3 of 1",
    },
    Script {
        claim: "a beat that comes when the lease is over does not renew it",
        steps: "1 attaches
            2 attaches
            1 lives
            1 sets news 1 +ann/s1
            at {lease/2}
            2 lives
            at {lease}
            1 lives
            1 sets news 2 +ann/s1
            1 lives
            1 hears answers",
        expected: "1: held, done news +ann e0:1 of 1, lost, reaped, lost",
    },
    Script {
        claim: "where nobody beat for a lease, nobody has left",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 lives
            2 lives
            1 sets news 1 +ann/s1
            at {lease}
            2 lives
            1 lives
            1 sets news 2 +bob/s2
            1 hears answers
            2 hears",
        expected: "1: held, done news +ann e0:1 of 1, held, done news +bob e0:2 of 2
            2: subscribed news, held, news +ann e0:1 of 1, held, news +bob e0:2 of 2",
    },
    Script {
        claim: "a lease that is renewed in time holds",
        steps: "1 attaches
            1 lives
            1 sets news 1 +ann/s1
            at {lease/2}
            1 lives
            at {lease}
            1 lives
            1 sets news 2 +bob/s2
            1 hears answers",
        expected: "1: held, done news +ann e0:1 of 1, held, held, done news +bob e0:2 of 2",
    },
    Script {
        claim: "who enters before its first beat, and never beats, is gone as well",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            1 sets news 1 +ann/s1
            2 lives
            at {lease/2}
            2 lives
            at {lease}
            2 lives
            2 hears",
        expected: "2: subscribed news, news +ann e0:1 of 1, held, held, news -ann e0:2 of 0, held",
    },
    Script {
        claim: "as much is reaped in one go as may be, and the rest at once behind it",
        steps: "1 attaches
            2 attaches
            2 subscribes news
            2 subscribes talk
            1 lives
            1 sets news 1 +u*500
            1 lives life=2 retired=1
            1 sets talk 1 +u*510 life=2
            1 lives life=3 retired=2
            2 hears",
        expected: "2: subscribed news, subscribed talk, news +500 users e0:1 of 500, news -500 users e0:2 of 0, \
                   talk +510 users e1:1 of 510, talk -500 users e1:2 of 10, talk -10 users e1:3 of 0",
    },
    Script {
        claim: "a node that detaches takes along what it entered, at once, whatever the grace",
        steps: "1 attaches
            2 attaches
            1 subscribes news
            2 subscribes news
            1 sets news 1 +ann/s1 +bob/s2
            1 sets $agents 1 +7/s1
            2 sets news 1 +bob/s3
            1 sets news 2 -ann/s1 grace=60000
            1 sets news 3 +ann/s1
            1 detaches for good
            2 lives
            2 hears
            1 attaches
            1 sets news 1 +ann/s1
            1 sets news 1 +ann/s1 life=2
            1 hears answers",
        expected: "2: subscribed news, news +ann +bob e0:1 of 2, $agents +7 e1:1 of 1, done, $agents -7 e1:2 of 0, \
                   news -ann e0:2 of 1, held $agents +7 e1:1 of 1 $agents -7 e1:2 of 0
            1: reaped, done news +ann e0:3 of 2",
    },
    Script {
        claim: "another master renews the versions' epoch, because it may never have had some of them",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            promotes
            1 sets news 2 +bob/s2
            1 asks news
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, news +bob e1:2 of 2, \
                   done news +bob e1:2 of 2, roster ann bob of 2 e1:2",
    },
    Script {
        claim: "a room whose presence is lost begins anew",
        steps: "1 attaches
            1 subscribes news
            1 sets news 1 +ann/s1
            1 sets news 2 -ann/s1 grace=300
            1 sets news 3 +bob/s2
            loses presence news
            1 asks news
            1 sets news 4 -bob/s2
            1 sets news 5 +cid/s3
            at 600
            1 lives
            1 hears",
        expected: "1: subscribed news, news +ann e0:1 of 1, done news +ann e0:1 of 1, done, news +bob e0:2 of 2, \
                   done news +bob e0:2 of 2, roster of 0, done, news +cid e1:1 of 1, done news +cid e1:1 of 1, held",
    },
    Script {
        claim: "everybody is lost with everything, and may come again",
        steps: "1 attaches
            1 subscribes news
            1 lives
            1 sets news 1 +ann/s1
            loses everything
            1 asks news
            1 lives
            1 sets news 1 +ann/s1
            1 hears",
        expected: "1: subscribed news, held, news +ann e0:1 of 1, done news +ann e0:1 of 1, roster of 0, held, \
                   news +ann e1:1 of 1, done news +ann e1:1 of 1",
    },
];
