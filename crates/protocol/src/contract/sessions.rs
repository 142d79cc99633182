//! Scripts about sessions that outlive their connection: records, fences, secrets, turns, windows (G13, G14).

use super::Script;

/// The scripts that every broker passes which keeps sessions.
pub const SESSIONS: &[Script] = &[
    Script {
        claim: "a session is taken over on another node, with its rooms, under the next generation",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 rooms=news,talk own=user-ann
            1 saves ann s1 secret=7 detached
            2 takes ann s1 secret=7 new=8
            1 hears
            2 hears",
        expected: "1: saved, saved
            2: taken s1 gen=2 rooms=[news talk] own=[user-ann] from nobody",
    },
    Script {
        claim: "a session that has a connection is taken from its node, whoever holds a lease",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7
            2 takes ann s1 secret=7 new=8
            1 takes ann s1 secret=8 new=9 alive=1
            2 takes ann s1 secret=9 new=10 alive=1,2
            1 hears
            2 hears",
        expected: "1: saved, taken s1 gen=3 rooms=[] own=[] from node 2
            2: taken s1 gen=2 rooms=[] own=[] from node 1, taken s1 gen=4 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "who has been taken over writes nothing any more",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 rooms=a
            2 takes ann s1 secret=7 new=8
            1 saves ann s1 secret=7 rooms=b
            1 saves ann s1 secret=7 detached turn=9
            1 saves ann s1 secret=7 ended
            2 saves ann s1 gen=2 secret=8 rooms=c
            1 takes ann s1 secret=9 new=10
            1 takes ann s1 secret=8 new=10
            1 hears
            2 hears",
        expected: "1: saved, fenced, fenced, fenced, untaken token, taken s1 gen=3 rooms=[c] own=[] from node 2
            2: taken s1 gen=2 rooms=[a] own=[] from node 1, saved",
    },
    Script {
        claim: "the secret that was brought stays good until the new one is confirmed",
        steps: "1 attaches
            1 saves ann s1 secret=7
            1 takes ann s1 secret=7 new=8
            1 saves ann s1 gen=2 secret=8
            1 takes ann s1 secret=7 new=9
            1 takes ann s1 secret=8 new=10
            1 saves ann s1 gen=3 secret=9 confirmed
            1 takes ann s1 secret=7 new=10
            1 takes ann s1 secret=9 new=10
            1 hears",
        expected: "1: saved, taken s1 gen=2 rooms=[] own=[] from node 1, saved, \
                   taken s1 gen=3 rooms=[] own=[] from node 1, untaken token, saved, untaken token, \
                   taken s1 gen=4 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "who comes with its turn is handed over, once",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 turn=9
            1 saves ann s1 secret=7
            2 takes ann s1 secret=9 new=8
            1 takes ann s1 secret=7 new=10
            1 takes ann s1 secret=9 new=10
            1 hears
            2 hears",
        expected: "1: saved, saved, untaken token, taken s1 gen=3 rooms=[] own=[] from node 2
            2: taken s1 gen=2 rooms=[] own=[] from turn of node 1",
    },
    Script {
        claim: "a turn that is not used leaves the secret as good as it was",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 turn=9
            2 takes ann s1 secret=7 new=8
            1 takes ann s1 secret=9 new=10
            1 hears
            2 hears",
        expected: "1: saved, untaken token
            2: taken s1 gen=2 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "a write without rooms leaves those that are kept, and one with rooms takes their place",
        steps: "1 attaches
            1 saves ann s1 secret=7
            1 takes ann s1 secret=7 new=7
            1 saves ann s1 gen=2 secret=7 rooms=news own=user-ann
            1 saves ann s1 gen=2 secret=7
            1 takes ann s1 secret=7 new=7
            1 saves ann s1 gen=3 secret=7 rooms=talk
            1 takes ann s1 secret=7 new=7
            1 hears",
        expected: "1: saved, taken s1 gen=2 rooms=[] own=[] from node 1, saved, saved, \
                   taken s1 gen=3 rooms=[news] own=[user-ann] from node 1, saved, \
                   taken s1 gen=4 rooms=[talk] own=[] from node 1",
    },
    Script {
        claim: "a session that ended cannot be taken, and ends once more without harm",
        steps: "1 attaches
            1 saves ann s1 secret=7
            1 saves ann s1 secret=7 ended
            1 saves ann s1 secret=7 ended
            1 takes ann s1 secret=7 new=8
            1 hears",
        expected: "1: saved, saved, saved, untaken unknown",
    },
    Script {
        claim: "a session is its user's alone, and its secret's",
        steps: "1 attaches
            1 saves ann s1 secret=7
            1 takes bob s1 secret=7 new=8
            1 takes ann s2 secret=7 new=8
            1 takes ann s1 secret=6 new=8
            1 saves bob s1 secret=6 rooms=news
            1 takes bob s1 secret=6 new=8
            1 takes ann s1 secret=7 new=8
            1 hears",
        expected: "1: saved, untaken unknown, untaken unknown, untaken token, saved, \
                   taken s1 gen=2 rooms=[news] own=[] from node 1, taken s1 gen=2 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "the only session without a connection is taken without its secret, which is no good then",
        steps: "1 attaches
            1 saves ann s1 secret=7
            1 saves ann s2 secret=8
            1 takes ann any new=9 alive=1
            1 saves ann s2 secret=8 detached
            1 takes ann any new=9 alive=1
            1 takes ann s2 secret=8 new=10
            1 takes ann s2 secret=9 new=10
            1 hears",
        expected: "1: saved, saved, untaken not_one, saved, taken s2 gen=2 rooms=[] own=[] from nobody, \
                   untaken token, taken s2 gen=3 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "a session of a node that is gone has no connection",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7
            2 saves ann s2 secret=8
            1 detaches
            2 takes ann any new=9 alive=2
            at 4100
            2 saves ann s2 secret=8
            2 takes ann any new=9 alive=1,2
            2 takes ann any new=9 alive=2
            2 takes ann any new=10 alive=2
            2 hears",
        expected: "2: saved, untaken not_one, saved, untaken not_one, taken s1 gen=2 rooms=[] own=[] from nobody, \
                   untaken not_one",
    },
    Script {
        claim: "of two sessions without a connection neither is taken without its secret",
        steps: "1 attaches
            1 takes ann any new=9
            1 saves ann s1 secret=7 detached
            1 saves ann s2 secret=8 detached
            1 takes ann any new=9
            1 takes bob any new=9
            1 hears",
        expected: "1: untaken not_one, saved, saved, untaken not_one, untaken not_one",
    },
    Script {
        claim: "a session without a connection can be taken for one window",
        steps: "1 attaches
            1 saves ann s1 secret=7 detached window=1000
            1 saves ann s2 secret=7 detached window=1000
            at 700
            1 takes ann s1 secret=7 new=8 window=1000
            at 1300
            1 takes ann s2 secret=7 new=8
            1 takes ann s1 secret=8 new=9
            1 hears",
        expected: "1: saved, saved, taken s1 gen=2 rooms=[] own=[] from nobody, untaken unknown, \
                   taken s1 gen=3 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "a session with a connection can be taken for two windows from when it was written or taken",
        steps: "1 attaches
            1 saves ann s1 secret=7 window=1000
            1 saves ann s2 secret=7 window=1000
            1 saves ann s3 secret=7 window=300
            at 1000
            1 takes ann s3 secret=7 new=8
            at 1600
            1 saves ann s2 secret=7 window=1000
            1 takes ann s1 secret=7 new=8 window=1000
            at 3200
            1 takes ann s1 secret=8 new=9
            1 takes ann s2 secret=7 new=9 window=100
            at 3900
            1 takes ann s2 secret=9 new=9
            1 hears",
        expected: "1: saved, saved, saved, untaken unknown, saved, taken s1 gen=2 rooms=[] own=[] from node 1, \
                   taken s1 gen=3 rooms=[] own=[] from node 1, taken s2 gen=2 rooms=[] own=[] from node 1, \
                   untaken unknown",
    },
    Script {
        claim: "a user has as many sessions as may be kept, and not one more: the one that is over first goes",
        steps: "1 attaches
            1 saves ann s1 secret=7 window=90000
            1 saves ann s2..64 secret=7
            1 saves bob s1 secret=7
            1 hears quietly
            1 takes ann s2 secret=7 new=7
            1 saves ann s2 gen=2 secret=7 window=61000
            1 hears
            1 saves ann s65 secret=7
            1 takes ann s1 secret=7 new=8
            1 takes ann s2 secret=7 new=8
            1 takes ann s3 secret=7 new=8
            1 takes ann s4 secret=7 new=8
            1 takes bob s1 secret=7 new=8
            1 hears",
        expected: "1: taken s2 gen=2 rooms=[] own=[] from node 1, saved
            1: saved, taken s1 gen=2 rooms=[] own=[] from node 1, taken s2 gen=3 rooms=[] own=[] from node 1, \
                   untaken unknown, taken s4 gen=2 rooms=[] own=[] from node 1, \
                   taken s1 gen=2 rooms=[] own=[] from node 1",
    },
    Script {
        claim: "a record that was lost is written anew by whoever has the session",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 rooms=news
            1 takes ann s1 secret=7 new=8
            loses session ann s1
            2 takes ann s1 secret=8 new=9
            1 saves ann s1 gen=2 secret=8 rooms=talk
            2 takes ann s1 secret=8 new=9
            1 hears
            2 hears",
        expected: "1: saved, taken s1 gen=2 rooms=[news] own=[] from node 1, saved
            2: untaken unknown, taken s1 gen=3 rooms=[talk] own=[] from node 1",
    },
    Script {
        claim: "sessions that are ordered to end are taken by nobody, and written by nobody",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7 rooms=news
            1 saves ann s2 secret=8 detached turn=9
            1 saves bob s3 secret=7
            2 ends ann order=4
            2 ends ann order=5
            2 takes ann s1 secret=7 new=10
            2 takes ann s2 secret=9 new=10
            2 takes ann any new=10 alive=2
            1 saves ann s1 secret=7 rooms=talk
            1 saves ann s2 secret=8 detached
            1 saves ann s1 secret=7 ended
            1 saves ann s1 secret=7 obeyed=5
            1 saves ann s4 secret=7 obeyed=5
            1 saves ann s4 secret=7 detached obeyed=5
            2 takes bob s3 secret=7 new=8
            2 takes ann any new=10 alive=2
            1 hears
            2 hears",
        expected: "1: saved, saved, saved, over, over, over, over, saved, saved
            2: ended, ended, untaken unknown, untaken unknown, untaken not_one, \
                   taken s3 gen=2 rooms=[] own=[] from node 1, taken s4 gen=2 rooms=[] own=[] from nobody",
    },
    Script {
        claim: "what a former connection writes brings no session back that has ended",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7
            2 takes ann s1 secret=7 new=8
            2 saves ann s1 gen=2 secret=8 ended
            1 saves ann s1 secret=7 detached
            2 saves ann s1 gen=2 secret=8 ended
            2 takes ann s1 secret=7 new=9
            1 takes ann any new=9
            1 hears
            2 hears",
        expected: "1: saved, fenced, untaken not_one
            2: taken s1 gen=2 rooms=[] own=[] from node 1, saved, over, untaken unknown",
    },
    Script {
        claim: "a session without a window left is remembered when it is ordered to end",
        steps: "1 attaches
            1 ends ann order=3
            1 saves ann s1 secret=7 window=500 obeyed=3
            1 ends ann order=9
            at 2000
            1 saves ann s1 secret=7 obeyed=9
            1 takes ann s1 secret=7 new=8
            1 hears",
        expected: "1: ended, saved, ended, over, untaken unknown",
    },
    Script {
        claim: "no record of a user begins by whoever has not obeyed the last order to end its sessions",
        steps: "1 attaches
            2 attaches
            2 ends ann order=7
            1 saves ann s1 secret=7 detached obeyed=6
            1 saves ann s1 secret=7 rooms=news obeyed=6
            1 saves bob s2 secret=7 detached obeyed=6
            2 takes ann s1 secret=7 new=8
            1 saves ann s3 secret=7 rooms=news obeyed=7
            2 ends ann order=6
            1 saves ann s3 secret=7 obeyed=7
            1 saves ann s4 secret=7 obeyed=6
            1 saves ann s4 secret=7 obeyed=8
            1 saves ann s4 secret=7 detached obeyed=6
            2 takes ann s4 secret=7 new=8
            1 saves ann s5 secret=7 ended obeyed=6
            1 hears
            2 hears",
        expected: "1: over, over, saved, saved, over, over, saved, saved, saved
            2: ended, untaken unknown, ended, taken s4 gen=2 rooms=[] own=[] from nobody",
    },
    Script {
        claim: "where the room of orders has begun anew, a session without a record begins with a connection",
        steps: "1 attaches
            2 attaches
            1 ends ann order=9
            2 saves ann s1 secret=7 detached obeyed=2:9
            2 saves ann s2 secret=7 detached
            2 saves ann s3 secret=7 obeyed=2:1
            2 saves ann s3 secret=7 detached obeyed=2:1
            2 saves ann s4 secret=7
            1 ends ann order=2:3
            2 saves ann s5 secret=7 obeyed=2:2
            2 saves ann s5 secret=7 obeyed=8
            2 saves ann s6 secret=7 obeyed=2:3
            1 hears
            2 hears",
        expected: "1: ended, ended
            2: over, over, saved, saved, saved, over, saved, saved",
    },
    Script {
        claim: "should a generation come twice, the session is whose secret is kept",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7
            2 saves ann s1 secret=8
            2 saves ann s1 secret=8 ended
            1 saves ann s1 secret=7
            2 saves ann s1 gen=2 secret=8
            1 hears
            2 hears",
        expected: "1: saved, saved
            2: fenced, fenced, saved",
    },
    Script {
        claim: "a record that was lost and came back gives no generation twice",
        steps: "1 attaches
            2 attaches
            1 saves ann s1 secret=7
            2 takes ann s1 secret=7 new=8 above=40
            1 takes ann s1 secret=8 new=9 above=5
            loses session ann s1
            1 saves ann s1 secret=7
            2 takes ann s1 secret=7 new=10 above=60
            1 saves ann s1 gen=42 secret=9
            2 saves ann s1 gen=61 secret=10
            1 hears
            2 hears",
        expected: "1: saved, taken s1 gen=42 rooms=[] own=[] from node 2, saved, fenced
            2: taken s1 gen=41 rooms=[] own=[] from node 1, taken s1 gen=61 rooms=[] own=[] from node 1, saved",
    },
    Script {
        claim: "sessions are lost with everything, and kept by another master",
        steps: "1 attaches
            1 saves ann s1 secret=7 rooms=news
            promotes
            1 takes ann s1 secret=7 new=7
            loses everything
            1 takes ann s1 secret=7 new=7
            1 hears",
        expected: "1: saved, taken s1 gen=2 rooms=[news] own=[] from node 1, untaken unknown",
    },
];
