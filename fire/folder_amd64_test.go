package fire

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestNewFolders makes an appliance and an agent in folders that are not there yet. When it is said that they were made,
// no power cut takes these folders away; not even if somebody was killed before, when a folder had just been made.
func TestNewFolders(t *testing.T) {
	state := map[string]string{"appliance": "deep/er/appliance", "agent": "deep/er/agent"}
	for file, line := range map[string][]string{"deep/er/appliance/ledger.db": genesis, "deep/er/agent/agent.db": enrol(t)} {
		world := beforeGenesis(t)
		if line[0] == "agent" {
			world = beforeAgent(t)
		}
		for kill := range 8 { // 0 is nobody
			w := world.copy(t)
			j, err := keep(w.dir, "deep")
			if err != nil {
				t.Fatal(err)
			}
			command := func(before func(call) fate) outcome {
				cmd := w.command(line...)
				cmd.Args[slices.Index(cmd.Args, "--state")+1] = state[line[0]]
				o, err := j.run(before)(cmd)
				if err != nil {
					t.Fatal(err)
				}
				return o
			}
			if kill > 0 {
				command(func(c call) fate { return fate{kill: c.number == kill} })
			}
			if o := command(nil); o.code != 0 {
				t.Fatalf("exit %d\n%s%s", o.code, o.out, o.words)
			}
			left := j.cut(len(j.done), dropped, rand.New(rand.NewPCG(0, 0))).left
			if n := left.find(j.top, file); n == nil || left.look(n).size == 0 {
				t.Errorf("killed at call %d, then given again, then the power was cut: %s is gone", kill, file)
			}
		}
	}
}
