# install takes the first of the packages that the system's own repositories have.
install() {
	for package; do
		if command -v apt-get >/dev/null; then
			DEBIAN_FRONTEND=noninteractive apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install "$package" && return
		elif command -v dnf >/dev/null; then
			dnf -y install "$package" && return
		elif command -v zypper >/dev/null; then
			zypper --non-interactive install "$package" && return
		else
			break
		fi
	done
	echo "no package of $* can be installed: bake one into the image" >&2
	return 1
}
