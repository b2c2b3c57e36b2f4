# SPDX-License-Identifier: BSD-3-Clause
# bash completion for vhost-switch. Options and values come from "vhost-switch --help".

# A key or value of --port, whose text so far is $1, of which $2 is the last word for bash.
_vhost_switch_port()
{
	local last=${1##*,} line key accepts words= before=
	local -A values=()

	while IFS= read -r line; do
		[[ $line == *"[switch]:" ]] && break
		if [[ $line =~ ^'    '([a-z-]+)'=' ]]; then
			key=${BASH_REMATCH[1]} words+=" $key="
		elif [[ -n $key && $line =~ 'accepts '([a-z]+)' or '([a-z]+)(';'|$) ]]; then
			values[$key]="${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
		fi
	done < <("${COMP_WORDS[0]}" --help 2>/dev/null)
	key=${last%%=*}
	if [[ $last != *=* ]]; then
		[[ $2 == *,* ]] && before=${2%,*},
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -P "$before" -W "$words" -- "$last")
		return
	fi
	[[ $2 == *=* ]] && before=${2%=*}=
	if [[ $key == socket ]]; then
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -P "$before" -f -- "${last#*=}")
	elif [[ -n ${values[$key]} ]]; then
		mapfile -t COMPREPLY < <(compgen -P "$before" -W "${values[$key]}" -- "${last#*=}")
	fi
}

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

	# bash breaks words at "=" where COMP_WORDBREAKS has it.
	local text=$cur
	for ((i = COMP_CWORD; i > 1; i--)); do
		[[ ${COMP_WORDS[i]} == = || ${COMP_WORDS[i - 1]} == = ]] || break
		text=${COMP_WORDS[i - 1]}$text
	done
	if [[ ${COMP_WORDS[i - 1]} == --port ]]; then
		[[ $cur == = ]] && cur=
		_vhost_switch_port "$text" "$cur"
		return
	fi

	local one_of='accepts ([a-z0-9]+(, [a-z0-9]+)* or [a-z0-9]+)(;|$)'
	local option value= line words=
	while IFS= read -r line; do
		if [[ $line =~ ^'  '(-[^ ]+)(' '([^ ]+))? ]]; then
			option=${BASH_REMATCH[1]} value=${BASH_REMATCH[3]}
			words+=" $option"
			if [[ $option == "$prev" && $value == @(PATH|NAME|FILE) ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
			fi
			if [[ $option == "$prev" && $value == USER* ]]; then
				mapfile -t COMPREPLY < <(compgen -u -- "$cur")
				return
			fi
		elif [[ $option == "$prev" && $line =~ $one_of ]]; then
			line=${BASH_REMATCH[1]// or / }
			mapfile -t COMPREPLY < <(compgen -W "${line//,/ }" -- "$cur")
			return
		elif [[ $option == "$prev" && -n $value ]]; then
			return
		fi
	done < <("${COMP_WORDS[0]}" --help 2>/dev/null)
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _vhost_switch vhost-switch
