# SPDX-License-Identifier: BSD-3-Clause
# bash completion for vhost-switch. Options and values come from "vhost-switch --help".

_vhost_switch()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i app=
	local eal="-l -c -n -m -a -d -- --lcores --main-lcore --socket-mem --in-memory --no-huge
		--huge-dir --single-file-segments --no-pci --vdev --iova-mode --file-prefix --log-level --help
		--version"

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -- ]] && app=y
	done
	if [[ -z $app ]]; then
		case $prev in
		-d | --huge-dir) compopt -o filenames 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$eal" -- "$cur") ;;
		esac
		return
	fi

	local option value= line words=
	while IFS= read -r line; do
		if [[ $line =~ ^'  '(-[^ ]+)(' '([^ ]+))? ]]; then
			option=${BASH_REMATCH[1]} value=${BASH_REMATCH[3]}
			words+=" $option"
			if [[ $option == "$prev" && $value == @(PATH|NAME) ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
			fi
			if [[ $option == "$prev" && $value == USER* ]]; then
				mapfile -t COMPREPLY < <(compgen -u -- "$cur")
				return
			fi
		elif [[ $option == "$prev" && $line =~ 'accepts '([0-9][0-9, or]*)(;|$) ]]; then
			mapfile -t COMPREPLY < <(compgen -W "${BASH_REMATCH[1]//[^0-9]/ }" -- "$cur")
			return
		elif [[ $option == "$prev" && -n $value ]]; then
			return
		fi
	done < <("${COMP_WORDS[0]}" --help 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _vhost_switch vhost-switch
