package fire
import ("testing";"time")
func TestProbe(t *testing.T){
 s:=time.Now(); w:=laden(t,500); t.Log("template",time.Since(s)); s=time.Now()
 lap:=func(n string){t.Log(n,time.Since(s)); s=time.Now()}
 c:=w.copy(t); lap("copy")
 c.must(t,"agent","export","--media","stick","--incomplete");lap("export")
 c.must(t,"appliance","process","--media","stick");lap("process")
 c.must(t,"appliance","process","--media","stick");lap("again")
 c.must(t,"agent","import","--media","stick");lap("import")
 c.must(t,"agent","certificates","--out","certs","--naming","serial");lap("certs")
 c.must(t,"appliance","log","export","--out","log");lap("logexport")
 c.must(t,"coldseal","log","verify","--log","log","--digest",c.digest);lap("verify")
 t.Log(c.must(t,"coldseal","log","audit","--log","log","--digest",c.digest));lap("audit")
 c.rows(t);lap("rows")
 t.Log(len(c.asked(t)))
}
