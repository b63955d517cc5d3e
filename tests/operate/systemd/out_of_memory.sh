# Run by the machine itself, as its last unit: what the kernel's OOM killer does to greenhouse.service. Says what it finds.
say() { echo "FOUND $1=$2"; }
count() { wc -l </received; }
until_more() {
  local goal=$(($(count) + 50)) tries=0
  while [ "$(count)" -lt $goal ]; do
    sleep 0.2
    if [ $((tries += 1)) -gt 500 ]; then # at the console, for whoever asks why
      say stuck "at $(count) of $goal messages"
      journalctl -u greenhouse --no-pager -n 30 -o cat
      systemctl poweroff --force --force
    fi
  done
}
logged() { journalctl -u greenhouse --no-pager -o cat | grep -c "$1"; }
property() { systemctl show --value -p "$1" greenhouse; }
processes() { for pid in $(cat "$group/cgroup.procs"); do tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q " $1 " && echo "$pid"; done; }

stdbuf -oL mosquitto_sub -h 127.0.0.1 -q 1 -t greenhouse/readings >/received &
systemctl start greenhouse || journalctl -u greenhouse --no-pager
say main "$(property MainPID)"
until_more
group=/sys/fs/cgroup$(property ControlGroup)
main=$(property MainPID) plugin=$(processes plugin) gateway=$(processes gateway)
say policy "$(property OOMPolicy)"
# The gateway is to be the one that is killed, when the unit's memory is at its limit.
choom -n 1000 -p "$gateway" >/dev/null
systemctl set-property --runtime greenhouse MemoryMax=$(($(cat "$group/memory.current") + 50000000))
bash -c 'echo $$ >'"$group/cgroup.procs"'; exec python3 -c "
import os
kept = []
while os.path.exists(\"/proc/'"$gateway"'\"):
    kept.append(b\"x\" * 2**20)
"'
while [ "$(logged 'gateway: started')" -lt 2 ]; do sleep 0.2; done
until_more
say oom_kills "$(grep -c 'oom-kill\|Out of memory\|Killed process' <(dmesg))"
say told_by_systemd "$(logged 'killed by the OOM killer')"
say gateway_killed "$(logged 'gateway: ended (killed by the kernel, out of memory)')"
[ "$(property MainPID)" = "$main" ] && say supervisor same
[ "$(processes plugin)" = "$plugin" ] && say plugin same
[ "$(processes gateway)" != "$gateway" ] && say gateway another
say state "$(property ActiveState)"
systemctl stop greenhouse
sleep 1
say sent "$(journalctl -u greenhouse --no-pager -o cat | sed -n 's/.* has sent \([0-9]*\).*/\1/p')"
say received "$(cut -d' ' -f2 /received | sort -n | uniq | wc -l)"
say last "$(cut -d' ' -f2 /received | sort -n | tail -1)"
systemctl poweroff --force --force
