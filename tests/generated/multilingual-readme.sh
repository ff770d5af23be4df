# A stand-in for a good agent: does the tasks of examples/generated-plans/multilingual-readme, each in its own file.
set -eu

# translation TAG GREETING PARAGRAPH HEADING ENGLISH ALL
translation() {
  printf '# %s\n\n%s\n\n## %s\n\n```\ngit clone https://github.com/octocat/Hello-World.git\n```\n\n[%s](README) · [%s](LANGUAGES.md)\n' \
    "$2" "$3" "$4" "$5" "$6" > "README.$1.md"
}

case $OCAPTAIN_TASK_ID in
1) translation ar 'مرحبا بالعالم!' \
  'هذا أول مستودع على GitHub. فيه تحية واحدة، ويمكن للجميع نسخه وتجربة ما يشاؤون.' \
  'احصل على نسخة' 'الإنجليزية' 'كل اللغات' ;;
2) translation de 'Hallo Welt!' \
  'Das ist ein erstes Repository auf GitHub. Es enthält einen Gruß, und alle dürfen es kopieren und damit etwas ausprobieren.' \
  'Eine Kopie holen' 'Englisch' 'Alle Sprachen' ;;
3) translation es '¡Hola, mundo!' \
  'Este es un primer repositorio en GitHub. Contiene un saludo, y cualquiera puede copiarlo y hacer pruebas.' \
  'Consigue una copia' 'Inglés' 'Todos los idiomas' ;;
4) translation fr 'Bonjour tout le monde !' \
  "Voici un premier dépôt sur GitHub. Il contient un salut, et chacun peut le copier et s'en servir pour essayer." \
  'Obtenir une copie' 'Anglais' 'Toutes les langues' ;;
5) translation ja 'こんにちは、世界！' \
  'これはGitHubでの最初のリポジトリです。あいさつが一つ入っていて、だれでもコピーして自由に試せます。' \
  'コピーを手に入れる' '英語' 'すべての言語' ;;
6) translation pt-BR 'Olá, mundo!' \
  'Este é um primeiro repositório no GitHub. Ele contém uma saudação, e todos podem copiá-lo e fazer experiências.' \
  'Obtenha uma cópia' 'Inglês' 'Todos os idiomas' ;;
7)
  {
    printf '# Languages\n\n| Language | In its own words | README |\n| --- | --- | --- |\n'
    printf '| English | Hello World! | [README](README) |\n'
    while IFS='|' read -r tag language; do
      greeting=$(head -n 1 "README.$tag.md")
      printf '| %s | %s | [README.%s.md](README.%s.md) |\n' "$language" "${greeting#\# }" "$tag" "$tag"
    done <<'END'
ar|Arabic
de|German
es|Spanish
fr|French
ja|Japanese
pt-BR|Brazilian Portuguese
END
  } > LANGUAGES.md ;;
*) echo "there is no task $OCAPTAIN_TASK_ID in this plan" >&2; exit 1 ;;
esac
